"""Who waits for the end of a run in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Signals:
    """A waiter is woken when its run may be over; it then looks in the database, which alone knows."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}

    def watch(self, run_id: str) -> asyncio.Future[None]:
        """A future that is set when the run may be over. Give it back with `unwatch`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(run_id, set()).add(future)
        return future

    def unwatch(self, run_id: str, future: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(run_id)
        if waiters is not None:
            waiters.discard(future)
            if not waiters:
                del self._waiters[run_id]

    def finished(self, run_ids: Iterable[str]) -> None:
        if not self._waiters:
            return
        for run_id in run_ids:
            for future in self._waiters.get(run_id, ()):
                if not future.done():
                    future.set_result(None)

    def look_again(self) -> None:
        """Something finished elsewhere, nobody knows what: all look."""
        self.finished(list(self._waiters))
