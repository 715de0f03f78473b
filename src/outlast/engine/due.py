"""What upkeep does with runs whose time has come. Each looks again under the lock: the world may have moved."""

from __future__ import annotations

from outlast.engine.operation import Lane, operation
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import TIMER, View
from outlast.model import ending, lifecycle
from outlast.model.refusal import Refusal
from outlast.model.requests import DropWork, Due, Unpark
from outlast.model.run import Execution, Run


def _needs_run(item: Due | Unpark, wants: Rows) -> None:
    wants.runs.add(item.run_id)


@operation(needs=_needs_run)
def due(view: View, d: Due) -> Run | Refusal | None:
    """A timer of a run: end of its delay, of its ttl, of a retry's pause, or of a worker's time to confirm a cancel."""
    run = view.run(d.run_id)
    if run is None or run.due_at != d.due_at or d.due_at > view.now:
        view.writes.gone_timers.add((d.due_at, TIMER, d.run_id))
        return None
    match run.execution:
        case Execution.DELAYED:
            return view.apply(lifecycle.release(run, now=view.now))
        case Execution.QUEUED if run.lane_id is None:
            return view.apply(lifecycle.retry_due(run, now=view.now))
        case Execution.QUEUED if run.resuming and (run.cancel_asked is None or ending.deadline(run.cancel_asked) > view.now):
            return view.apply(lifecycle.leave_holder(run, now=view.now))
        case Execution.QUEUED if run.cancel_asked is not None:  # nobody came for its clean-up
            return view.apply(ending.confirm_cancel(run, now=view.now))
        case Execution.QUEUED:
            return view.apply(lifecycle.expire(run, now=view.now))
        case Execution.PENDING_CANCEL:
            return view.apply(ending.confirm_cancel(run, now=view.now))
        case _:
            view.writes.gone_timers.add((d.due_at, TIMER, d.run_id))
            return None


def _unparked_lane(view: View, u: Unpark) -> list[Lane]:
    place = view.place(u.env_id, u.task, u.queue, None)
    return [] if place.queue_id is None else [((place.queue_id, u.concurrency_key or "", place.route), u.env_id)]


@operation(needs=_needs_run, lanes=_unparked_lane)
def unpark(view: View, u: Unpark) -> Run | Refusal | None:
    """A parked run whose task and queue are known now. Exactly once, however many versions are registered at a time."""
    run = view.run(u.run_id, u.env_id)
    if run is None or run.execution is not Execution.PENDING_VERSION:
        return None
    if run.started_at is not None and run.version == view.catalog.environment(view.tx, u.env_id).current_version:
        return None  # the version that its journal does not fit
    asked = None if run.queue == f"task/{run.task}" else run.queue
    place = view.place(u.env_id, run.task, asked, run.locked_version)
    if place.queue_id is None:
        return None
    key = (place.queue_id, run.concurrency_key or "", place.route)
    if key not in view.lane_ids:
        raise NeedsLock(Rows(lanes={key: u.env_id}))
    ttl_ms = place.definition.ttl_ms if place.definition else None
    return view.apply(lifecycle.unpark(run, queue_id=place.queue_id, queue=place.queue, to=place.route, ttl_ms=ttl_ms, now=view.now))


def _needs_nothing(_: DropWork, __: Rows) -> None:
    return


@operation(needs=_needs_nothing)
def drop_work(view: View, d: DropWork) -> None:
    view.writes.gone_work.append((d.work_id,))
