"""Stopping what an executor holds: runs that were cancelled, and attempts that do not end in their grace."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from outlast.worker.ended import Ended

if TYPE_CHECKING:
    from outlast.worker.attempt import AttemptRunner
    from outlast.worker.core import ExecutorCore
    from outlast.worker.held import Held

log = logging.getLogger("outlast.worker")

REPLAY_SECONDS = 25.0  # what a cancelled run gets to come to its wait; with the grace after it less than the server's minute
CLEAN_UP_SECONDS = 30.0  # and from there to its end, as every cancelled run


class Stopping:
    def __init__(self, core: ExecutorCore) -> None:
        self._core = core
        self._loop = asyncio.get_running_loop()

    def cancel(self, run_id: str, epoch: int, grace_ms: int) -> None:
        """The run was cancelled: tell its code, and confirm when it has ended."""
        core, held = self._core, self._core.held.get(run_id)
        if held is None or held.push.epoch != epoch or held.abandoned or held.push.cancelled:
            return None  # the last: it knows, and hears of it when it has come to its wait
        if held.runner is not None:
            return held.runner.stop("cancelled", grace_ms / 1_000)
        if held.answered is not None:
            if not held.answered.done() or (following := held.answered.result()) is None:
                return None  # its end is on its way, and the server decides which came first
            held.again(following)
        # not begun yet, or between two attempts: nothing runs that could confirm
        core.give_up(held)
        return core.send(core.done(held.push, Ended("cancelled")))

    def replay(self, held: Held) -> None:
        """It was cancelled while it waited: its code stops where it has come to that wait, at the latest after a time."""
        self._loop.call_later(REPLAY_SECONDS, self.at_wait, held)

    def at_wait(self, held: Held) -> None:
        """All that is recorded has been given to its code."""
        if held.runner is not None and held.runner.stopped is None and held.journal is not None and not held.abandoned:
            held.journal.unblocked()
            held.runner.stop("cancelled", CLEAN_UP_SECONDS)

    def began(self, held: Held, grace: float) -> None:
        """Its code was told to stop."""
        self._loop.call_later(grace, self._overdue, held, held.runner)

    def _overdue(self, held: Held, runner: AttemptRunner | None) -> None:
        """The grace is over and the code did not stop: the run is given up here, its end is reported."""
        core = self._core
        if runner is None or held.runner is not runner or held.abandoned:
            return
        log.warning("the code of a run did not stop in time", extra={"run_id": held.push.run_id, "task": held.push.task})
        ended = runner.ended_by_force()
        core.give_up(held)
        core.lines.over(held.push.run_id, held.push.attempt)
        core.send(core.done(held.push, ended))
