"""Retention: finished runs, their events and logs, batches and tokens go when they are old enough.

Every server does it, and none leads. A step deletes little, so that no flush waits long for it, and is followed by a pause
in proportion to what it took: however much there is to delete, it takes a small share of the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from outlast.engine.engine import Engine
from outlast.model.limits import UPKEEP_MS
from outlast.store import batches, events, runs, waitpoints
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.upkeep")

RUNS = 100  # that a step looks at, and as many batches and tokens
EVENTS = 1_000  # with lines of logs, that it deletes
PAUSES = 29  # a step's time is followed by so many times of pause: a thirtieth of the database's time


class Retention:
    """Runs until cancelled."""

    def __init__(self, engine: Engine, *, days: float) -> None:
        self._engine = engine
        self._ms = int(days * 86_400_000)
        self._pruned_to: dict[Callable[..., object], str] = {}  # how far it has come through what has ids

    async def run(self) -> None:
        while True:
            began, is_more = time.perf_counter(), False
            try:
                is_more = await self.step()
            except DatabaseError as error:
                log.warning("retention waits for the database", extra={"error": str(error)})
            except Exception:  # the next step may go well
                log.exception("a step of retention failed")
            await asyncio.sleep(PAUSES * (time.perf_counter() - began) if is_more else UPKEEP_MS / 1_000)

    async def step(self) -> bool:
        """Delete a little of everything that is old; whether there may be more."""
        before = self._engine.clock.now() - self._ms
        is_more = await self._engine.write(lambda tx: events.prune(tx, before, EVENTS)) >= EVENTS
        for prune in (runs.prune, batches.prune, waitpoints.prune):
            write = partial(prune, before=before, after=self._pruned_to.get(prune, ""), limit=RUNS)
            _, self._pruned_to[prune] = await self._engine.write(write)
            is_more = is_more or self._pruned_to[prune] != ""
        return is_more
