"""A run that an executor holds: executing, or waiting without a slot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from msgspec.structs import replace

from outlast.model.messages import RunPush
from outlast.worker.attempt import AttemptRunner
from outlast.worker.journal import Journal


@dataclass(slots=True)
class Held:
    """A run that this executor holds."""

    push: RunPush
    work: asyncio.Task[None] | None = None
    runner: AttemptRunner | None = None
    abandoned: bool = False
    answered: asyncio.Future[int | None] | None = None  # the next attempt, if the run is tried again here
    journal: Journal | None = None

    def again(self, attempt: int) -> None:
        """Tried again here: the steps that went well are kept."""
        steps = self.journal.steps() if self.journal is not None else []
        self.push = replace(self.push, attempt=attempt, journal=attempt, entries=steps)
