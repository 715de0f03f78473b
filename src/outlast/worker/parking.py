"""Going cold: a waiting run is left to its database row, by age, by count, by memory, at drain; it is replayed when it goes on.

Nothing is thrown into user code to suspend it, and a coroutine that nobody references is closed, which runs its `finally`.
So coroutines that went cold are parked: referenced until the process ends. When there are many the process is replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from outlast.model.messages import Cold
from outlast.worker.held import Held

if TYPE_CHECKING:
    from outlast.worker.core import ExecutorCore

COLD_AFTER_SECONDS = 60.0
HOT_WAITS = 7_000  # with twice as many parked, and one more process while it is replaced: well below 400 MB
PARKED_PER_HOT = 2  # a process is replaced when it has parked so many times its hot ones
MIN_WAITS = 100  # an executor that is large with fewer than these is not large because of them
MAX_PARKED_A_TURN = 200  # some 2 ms


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """`cold_after`: seconds of waiting; `hot_waits`: runs of one executor; `memory_mb`: of its process. None: without end."""

    cold_after: float | None = None
    hot_waits: int | None = None
    memory_mb: int | None = None


ENDLESS = WaitLimits()


class Parking:
    """The runs of an executor that wait hot, the longest first, and the coroutines of those that went cold."""

    def __init__(self, core: ExecutorCore, limits: WaitLimits) -> None:
        self.limits = limits
        self.on_full: Callable[[], None] | None = None  # only a new process gives the memory back
        self._core = core
        self._loop = asyncio.get_running_loop()
        self._hot: dict[str, Held] = {}
        self._parked: list[asyncio.Task[Any]] = []
        self._runs = 0  # parked
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Runs whose coroutines are parked."""
        return self._runs

    def add(self, held: Held) -> None:
        """It waits from now on."""
        held.waits_since = self._loop.time()
        self._hot[held.push.run_id] = held
        if self.limits.hot_waits is not None and len(self._hot) > self.limits.hot_waits:
            self._cool(next(iter(self._hot.values())))
        self._set_timer()

    def remove(self, held: Held) -> None:
        """It goes on, or is not here any more."""
        if self._hot.get(held.push.run_id) is held:
            del self._hot[held.push.run_id]

    def park(self, held: Held) -> None:
        """Its row is all that is needed."""
        self._parked += held.park()
        self._runs += 1
        self._core.forget(held)
        hot = self.limits.hot_waits
        if hot is not None and self._runs >= hot * PARKED_PER_HOT:
            self._full()

    def look_at_memory(self, megabytes: float) -> None:
        """What the process has now."""
        limit = self.limits.memory_mb
        if limit is not None and megabytes > limit and len(self._hot) + self._runs >= MIN_WAITS:
            self._full()

    def _full(self) -> None:
        tell, self.on_full = self.on_full, None
        if tell is not None:
            tell()

    def _cool(self, held: Held) -> None:
        """Park it, and tell the server, which then offers the run to whoever has room."""
        self.remove(held)
        if held.can_park:
            self.park(held)
            self._core.send(Cold(self._core.next_number(), held.push.run_id, held.push.epoch))

    def _set_timer(self) -> None:
        if self.limits.cold_after is not None and self._timer is None and self._hot:
            longest = next(iter(self._hot.values()))
            self._timer = self._loop.call_at(longest.waits_since + self.limits.cold_after, self._look)

    def _look(self) -> None:
        self._timer = None
        assert self.limits.cold_after is not None
        now = self._loop.time()
        for held in list(self._hot.values())[:MAX_PARKED_A_TURN]:
            if held.waits_since + self.limits.cold_after > now:  # the same sum as the timer's: a difference may round the other way
                break
            self._cool(held)
        self._set_timer()
