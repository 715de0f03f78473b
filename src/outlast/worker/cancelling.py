"""What cancelled an operation: asyncio's timeouts use the loop's clock, which starts anew in a replay."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from outlast import current
from outlast.errors import UndurableTimeout

if TYPE_CHECKING:
    from outlast.durable import Slot
    from outlast.worker.scopes import Scope


class RunTask(asyncio.Task[Any]):
    """A task that knows whether a timeout cancels it."""

    timed_out = False

    def cancel(self, msg: Any = None) -> bool:
        self.timed_out = _is_timeout()
        return super().cancel(msg)


def _is_timeout() -> bool:
    """Looks up through asyncio, and through tasks that pass a cancellation on."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        code = frame.f_code
        if code is not RunTask.cancel.__code__ and "asyncio" not in code.co_filename:
            return False
        if code.co_name == "_on_timeout":
            return True
        if code.co_name == "wait_for":  # before Python 3.12; with an exception in hand it passes on what ended itself
            return sys.exc_info()[0] is None
        frame = frame.f_back
    return False


def say_if_timed_out(scope: Scope | None, slot: Slot, *, is_dev: bool) -> None:
    """An operation was cancelled. If a timeout did it, the code may take another way in a replay.

    Raises:
        UndurableTimeout: in development; in production the run's log says it.
    """
    while scope is not None and not _is_timed_out(scope.owner):
        scope = scope.parent
    if scope is None:
        return
    text = (
        f"{slot.kind} {slot.label!r} at {slot.location} was ended by asyncio.timeout or asyncio.wait_for, whose clock starts anew in a"
        " replay: use the operation's own timeout=, or wait.first with wait.for_"
    )
    if is_dev:
        raise UndurableTimeout(text)
    if (attempt := current.attempt.get()) is not None:
        attempt.emit("warn", "system", text, None)


def _is_timed_out(task: asyncio.Task[Any] | None) -> bool:
    return isinstance(task, RunTask) and task.timed_out and task.cancelling() > 0
