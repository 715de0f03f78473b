"""A run that an executor holds: executing, or waiting without a slot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from outlast.context import AttemptInfo, RunContext, build_context
from outlast.model.journal import Entry
from outlast.model.messages import RunPush
from outlast.worker.attempt import AttemptRunner
from outlast.worker.ended import Ended
from outlast.worker.journal import Journal
from outlast.worker.sides import Sides

_USED: dict[str, Any] = {"run": {}}
_GIVEN: list[Entry] = []


@dataclass(slots=True)
class Held:
    """A run that this executor holds."""

    push: RunPush
    work: asyncio.Task[None] | None = None
    runner: AttemptRunner | None = None
    abandoned: bool = False
    answered: asyncio.Future[int | None] | None = None  # the next attempt, if the run is tried again here
    journal: Journal | None = None
    sides: Sides | None = None
    ctx: RunContext | None = None
    waits_since: float = 0.0  # seconds of the loop's clock

    def begin(self) -> tuple[RunContext, list[Entry]]:
        """What the attempt begins with. What it was made of is not kept: a run may wait for a long time."""
        entries = self.push.entries
        if self.ctx is None:
            self.ctx = build_context(self.push)
        losses = self.push.context["run"].get("losses")
        self.push = replace(self.push, context={"run": {"losses": losses}} if losses else _USED, entries=_GIVEN)
        return self.ctx, entries

    def again(self, attempt: int, ended: Ended | None = None) -> None:
        """Tried again here: what went well is kept, as far as the task says so."""
        kept = self.journal.past.kept() if self.journal is not None else []
        used, cpu = (ended.usage_ms, ended.cpu_ms) if ended is not None else (0, 0)
        earlier, cpu = self.push.earlier_ms + used, self.push.earlier_cpu_ms + cpu
        self.push = replace(
            self.push, attempt=attempt, journal=attempt, entries=kept, used_ms=0, used_cpu_ms=0, earlier_ms=earlier, earlier_cpu_ms=cpu
        )
        if self.ctx is not None:
            self.ctx = replace(self.ctx, attempt=AttemptInfo(attempt, datetime.now(UTC)))

    def clear(self) -> None:
        """Its work is over. What refers to each other is taken apart, or every run would be one for the garbage collector."""
        self.work = self.journal = self.sides = None

    @property
    def can_park(self) -> bool:
        """It waits in coroutines, without a slot. A thread that waits can only be ended with its process."""
        runner = self.runner
        return (
            self.journal is not None
            and self.journal.is_suspended
            and not self.abandoned
            and runner is not None
            and runner.thread is None
            and runner.stopped is None
        )

    def park(self) -> list[asyncio.Task[Any]]:
        """Its coroutines, which must stay referenced; nothing is sent to or by the run any more."""
        self.abandoned = True
        tasks = self.journal.park() if self.journal is not None else []
        return [*tasks, self.work] if self.work is not None and self.work not in tasks else tasks
