"""The attempt that the current code belongs to, in coroutines and in threads alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from outlast.context import RunContext
from outlast.errors import OutsideRunError

if TYPE_CHECKING:
    from outlast.beside import Beside
    from outlast.durable import Durable
    from outlast.usage import Meter

Emit = Callable[[str, str, str, dict[str, Any] | None], None]


class Attempt:
    """What lives as long as one attempt. `cancelled` is set when it must stop; `emit` takes (level, source, message, data)."""

    __slots__ = ("_cancelled", "beside", "ctx", "durable", "emit", "locals", "meter")

    def __init__(self, *, ctx: RunContext, emit: Emit, durable: Durable | None = None, beside: Beside | None = None) -> None:
        self.ctx = ctx
        self.emit = emit
        self.durable = durable
        self.beside = beside
        self.locals: dict[str, Any] = {}
        self.meter: Meter | None = None
        self._cancelled: threading.Event | None = None

    @property
    def cancelled(self) -> threading.Event:
        if self._cancelled is None:  # most attempts never ask
            self._cancelled = threading.Event()
        return self._cancelled

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled is not None and self._cancelled.is_set()


attempt: ContextVar[Attempt | None] = ContextVar("outlast_attempt", default=None)


def required(call: str) -> Attempt:
    """The current attempt.

    Raises:
        OutsideRunError: there is none; names the call.
    """
    found = attempt.get()
    if found is None:
        raise OutsideRunError(f"{call} only works inside a task: call it in the function that @task decorates, or in what that calls")
    return found
