"""A thread that sees the event loop stand still, and names the run that holds it up. It also sees the supervisor vanish."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

log = logging.getLogger("outlast.worker")

LOOK_SECONDS = 1.0
BLOCKED_SECONDS = 5.0


class Watchdog:
    """`running` says what the executor holds, as texts; it is called from the watchdog's thread.

    The thread needs the interpreter to look: code that never releases it is seen by the supervisor alone, which then asks
    the process for its stacks by a signal.
    """

    def __init__(self, running: Callable[[asyncio.Task[object] | None], list[str]], *, blocked_seconds: float = BLOCKED_SECONDS) -> None:
        self._running = running
        self._blocked_seconds = blocked_seconds
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat = time.monotonic()
        self._parent = os.getppid()
        self._timer = self._loop.call_soon(self._mark)
        self._thread = threading.Thread(target=self._look, name="outlast-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _mark(self) -> None:
        self._beat = time.monotonic()
        self._timer = self._loop.call_later(LOOK_SECONDS / 2, self._mark)

    def _look(self) -> None:
        told = False
        while True:
            time.sleep(min(LOOK_SECONDS, self._blocked_seconds / 4))
            if os.getppid() != self._parent:
                os._exit(0)  # its control line is not read while the loop stands still
            blocked = time.monotonic() - self._beat
            if blocked < self._blocked_seconds:
                told = False
            elif not told:
                told = True
                self._tell(blocked)

    def _tell(self, blocked: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # pyright: ignore[reportPrivateUsage]
        stack = "".join(traceback.format_stack(frame)[-12:]) if frame is not None else ""
        executing = asyncio.current_task(self._loop)
        log.error("event loop blocked", extra={"seconds": round(blocked, 1), "running": self._running(executing), "stack": stack})
