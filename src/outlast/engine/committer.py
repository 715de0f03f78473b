"""The committer's thread, where a flush must not hold up the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")
Done = Callable[[Any, BaseException | None], None]  # the result, or the error


class Committer:
    """Does one piece of work after the other. A pool's thread would cost each flush two more turns of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._work: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outlast-committer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], R], done: Done) -> None:
        """`done` is called in the loop."""
        self._work.put((work, done))

    async def run(self, work: Callable[[], R]) -> R:
        future: asyncio.Future[R] = self._loop.create_future()

        def done(result: R, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.submit(work, done)
        return await future

    def close(self) -> None:
        """When what was submitted is done."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, done = item
            try:
                result, error = work(), None
            except BaseException as raised:  # whoever waits for it hears of it
                result, error = None, raised
            self._loop.call_soon_threadsafe(done, result, error)
            del item, work, done, result, error  # or they would live until the next work comes
