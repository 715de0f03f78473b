"""Processes of runs that wait: few, not for long, and none of them when the machine is short of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outlast.worker.child import Child
from outlast.worker.memory import memory

HOT_PROCESSES = 64  # of a worker; each has some 5 MB of its own, and what its run has made
LOW_MEMORY = 0.1  # of the machine's: with less, processes that wait are ended
LOOK_SECONDS = 0.5


class HotProcesses:
    """The longest waiting first. `cool` is asked to let one go; it stays here until it is removed."""

    def __init__(self, cool: Callable[[Child], None], *, most: int) -> None:
        self._cool = cool
        self._most = min(HOT_PROCESSES, most)
        self._since: dict[Child, float] = {}

    def __contains__(self, child: Child) -> bool:
        return child in self._since

    def all(self) -> list[Child]:
        return list(self._since)

    def add(self, child: Child) -> None:
        self._since[child] = asyncio.get_running_loop().time()
        hot = [one for one in self._since if not one.cooling]
        for one in hot[: max(0, len(hot) - self._most)]:
            self._cool(one)

    def remove(self, child: Child) -> None:
        self._since.pop(child, None)

    async def look(self, cold_after: float | None) -> None:
        """Let those go that have waited for so many seconds, or whose memory others need."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            free, whole = memory() if self._since else (1, 1)
            is_low = free < whole * LOW_MEMORY
            for child, since in list(self._since.items()):
                if not is_low and (cold_after is None or loop.time() - since < cold_after):
                    break
                self._cool(child)
