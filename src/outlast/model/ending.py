"""How a run ends, and how it is cancelled: at once for users, later for the code that executes it or is to clean up. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.model.change import (
    CANCEL_CHILDREN,
    DEQUEUE,
    ENQUEUE,
    FREE_SLOT,
    SET_TIMER,
    TELL_WORKER,
    UNPARK,
    Change,
    ClearTimer,
    Effect,
    Finish,
)
from outlast.model.failure import internal
from outlast.model.lane import held_route
from outlast.model.limits import CANCEL_DEADLINE_MS, CLEAN_UP_MS, HOLDER_MS, MAX_DELIVERIES, MAX_LOSSES
from outlast.model.refusal import Refusal
from outlast.model.result import encode_failure
from outlast.model.run import HOLDS_SLOT, Execution, Run, Status

E = Execution


def finish(
    run: Run, status: Status, reason: str, done: Finish, *, now: int, more: tuple[Effect, ...] = (), data: dict[str, object] | None = None
) -> Change:
    """Over: whatever it held is free."""
    effects: list[Effect] = [done, *_freed(run)]
    final = replace(run, status=status, execution=E.FINISHED, held_by=None, executor=None, due_at=None, finished_at=now, updated_at=now)
    return Change(final, reason, (*effects, *more), data)


def _freed(run: Run) -> list[Effect]:
    effects: list[Effect] = []
    if run.execution in HOLDS_SLOT:
        effects.append(FREE_SLOT)
    elif run.execution is E.QUEUED and run.lane_id is not None:
        effects.append(DEQUEUE)
    elif run.execution is E.PENDING_VERSION:
        effects.append(UNPARK)
    if run.due_at is not None and run.execution is not E.PENDING_VERSION:
        effects.append(ClearTimer(run.due_at))
    return effects


def is_suspended(run: Run) -> bool:
    """Its code stands at a wait, also if that is over already and nobody has taken the run yet."""
    return run.execution is E.SUSPENDED or (run.execution is E.QUEUED and bool(run.resuming) and run.cancel_asked is None)


def cancel(run: Run, *, reason: str, now: int, cleans_up: bool = False, is_away: bool = False) -> Change | Refusal:
    """Final for users at once; a worker that executes it keeps slot and lease until it confirms, or for a minute.

    `cleans_up`: one that waits is claimed once more, so that its code hears of it at its wait. `is_away`: as for `lifecycle.resume`.
    """
    if run.execution is E.PENDING_CANCEL:
        return Change(replace(run, updated_at=now), "cancel repeated", (TELL_WORKER,))
    if run.is_final:
        return Refusal("run_final", f"run {run.id} is already {run.status.value}", {"status": run.status.value})
    error = Finish(error=encode_failure(internal("TASK_RUN_CANCELLED", reason)))
    if cleans_up and is_suspended(run):
        return _queue_clean_up(run, error, is_away=is_away, now=now)
    if run.execution not in HOLDS_SLOT:
        told = (TELL_WORKER,) if run.held_by is not None else ()  # its coroutine waits there
        return finish(run, Status.CANCELED, "cancelled", error, now=now, more=(*told, CANCEL_CHILDREN))
    asked = replace(_cancelled(run, now), execution=E.PENDING_CANCEL, due_at=now + CANCEL_DEADLINE_MS)
    return Change(asked, "cancelled", (error, TELL_WORKER, SET_TIMER, CANCEL_CHILDREN))


def _cancelled(run: Run, now: int) -> Run:
    return replace(run, status=Status.CANCELED, cancel_asked=now, finished_at=now, updated_at=now)


def _queue_clean_up(run: Run, error: Finish, *, is_away: bool, now: int) -> Change:
    asked = replace(_cancelled(run, now), execution=E.QUEUED, resuming=1)
    if run.execution is E.QUEUED:  # in its lane already; if it has a timer, that is for whoever has its coroutine
        timer = () if run.due_at is not None else (SET_TIMER,)
        return Change(replace(asked, due_at=run.due_at or deadline(now)), "cancelled", (error, *timer, CANCEL_CHILDREN))
    asked = replace(asked, due_at=deadline(now))
    if is_away and run.held_by is not None:
        asked = replace(asked, route=held_route(run.held_by, run.route), due_at=now + HOLDER_MS)
    return Change(asked, "cancelled", (error, ENQUEUE, SET_TIMER, CANCEL_CHILDREN))


def deadline(cancel_asked: int) -> int:
    """Until when somebody must have taken a cancelled run for its clean-up."""
    return cancel_asked + CLEAN_UP_MS


def confirm_cancel(run: Run, *, now: int) -> Change:
    """The worker stopped, was lost, or stayed silent for a minute: the slot is free, the status stays CANCELED."""
    told = (TELL_WORKER,) if run.execution is E.QUEUED and run.held_by is not None else ()  # nobody had room for it
    over = replace(run, execution=E.FINISHED, held_by=None, executor=None, due_at=None, updated_at=now)
    return Change(over, "cancel confirmed", (*_freed(run), *told))


def stopped_again(run: Run, *, began: bool = True, now: int) -> Change:
    """Who was to stop a cancelled run is gone. If that was for its clean-up, another replays it while there is time.

    `began`: its code ran, and may be what ended the process.
    """
    assert run.execution is E.PENDING_CANCEL
    if not run.resuming or (asked := run.cancel_asked) is None:
        return confirm_cancel(run, now=now)
    run = replace(run, losses=run.losses + 1) if began else replace(run, deliveries=run.deliveries + 1)
    if run.losses >= MAX_LOSSES or run.deliveries >= MAX_DELIVERIES or now >= deadline(asked):
        return confirm_cancel(run, now=now)
    again = replace(run, execution=E.QUEUED, held_by=None, executor=None, due_at=deadline(asked), updated_at=now)
    return Change(again, "stopped again", (*_freed(run), ENQUEUE, SET_TIMER))
