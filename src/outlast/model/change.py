"""A change of a run: the run as it will be, why, and what else must happen in the same transaction."""

from __future__ import annotations

from typing import Any

import msgspec

from outlast.model.run import Run


class Enqueue(msgspec.Struct, frozen=True, gc=False):
    """Put the run into the lane of its queue, key and route, at `run.pos`."""


class Dequeue(msgspec.Struct, frozen=True, gc=False):
    """Take the run's entry out of its lane."""


class FreeSlot(msgspec.Struct, frozen=True, gc=False):
    """Give the run's slot back."""


class SetTimer(msgspec.Struct, frozen=True, gc=False):
    """Wake upkeep at `run.due_at`."""


class ClearTimer(msgspec.Struct, frozen=True, gc=False):
    """Forget the timer set for `due_at`."""

    due_at: int


class Park(msgspec.Struct, frozen=True, gc=False):
    """Keep the run until a version that knows its task and queue is registered."""


class Unpark(msgspec.Struct, frozen=True, gc=False):
    """It is known now, or over."""


class Finish(msgspec.Struct, frozen=True, gc=False):
    """Store the result, count the batch, and let the children of a cancelled run follow."""

    output: str | None = None
    output_type: str | None = None
    error: str | None = None
    result_hash: str | None = None


class CancelChildren(msgspec.Struct, frozen=True, gc=False):
    """A durable work item: at most some hundred children per transaction."""


class TellWorker(msgspec.Struct, frozen=True, gc=False):
    """The worker that holds the run must stop it."""


Effect = Enqueue | Dequeue | FreeSlot | SetTimer | ClearTimer | Park | Unpark | Finish | CancelChildren | TellWorker

ENQUEUE = Enqueue()
DEQUEUE = Dequeue()
FREE_SLOT = FreeSlot()
SET_TIMER = SetTimer()
PARK = Park()
UNPARK = Unpark()
CANCEL_CHILDREN = CancelChildren()
TELL_WORKER = TellWorker()


class Change(msgspec.Struct, frozen=True, gc=False):
    run: Run
    reason: str
    effects: tuple[Effect, ...] = ()
    data: dict[str, Any] | None = None
