"""How an attempt ends."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

from outlast.model.failure import Failure

Outcome = Literal["ok", "failed", "retry", "cancelled", "timed_out", "crashed", "lost", "parked"]
Why = Literal["cancelled", "timed_out"]


@dataclass(slots=True)
class Ended:
    """How an attempt ended."""

    outcome: Outcome
    output: str | None = None
    output_type: str = "application/json"
    error: Failure | None = None
    retry_delay_ms: int = 0
    usage_ms: int = 0
    cpu_ms: int = 0
    peak_memory: int = 0


class Failed(Exception):
    """The task's own failure on its way through the middleware."""

    def __init__(self, error: BaseException, code: str = "", *, final: bool = False) -> None:
        super().__init__()  # not the error's text: user code makes it, and may raise
        self.error = error
        self.code = code
        self.final = final


class RunPromise:
    """What `on_cancel` may await: the output, if the function still returned one; None when it was cancelled."""

    def __init__(self, body: asyncio.Task[Any]) -> None:
        self._body = body

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.wait([self._body]).__await__()
        if self._body.cancelled():
            return None
        error = self._body.exception()
        if error is None:
            return self._body.result()
        raise error.error if isinstance(error, Failed) else error
