"""What may happen to a run. Pure: each function takes a run and gives the Change, or a Refusal; nothing else is touched."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from outlast.model.change import (
    DEQUEUE,
    ENQUEUE,
    FREE_SLOT,
    PARK,
    SET_TIMER,
    UNPARK,
    Change,
    ClearTimer,
    Effect,
    Finish,
)
from outlast.model.ending import confirm_cancel, deadline, finish, stopped_again
from outlast.model.failure import Failure, internal
from outlast.model.lane import alone_route, held_route, home_route, is_alone, kind_of, pinned
from outlast.model.limits import (
    ALONE_LOSSES,
    CANCEL_DEADLINE_MS,
    HOLDER_MS,
    LOSS_BACKOFF_MS,
    MAX_ATTEMPTS,
    MAX_DELIVERIES,
    MAX_LOSSES,
    WARM_RETRY_MS,
)
from outlast.model.refusal import Refusal
from outlast.model.result import Result, encode_failure
from outlast.model.run import HOLDS_SLOT, Execution, Run, Status

E = Execution
GENERATION_EPOCHS = 1 << 20  # more than one run is claimed between two failovers

# from → what may follow; the diagram in docs/internals is rendered from this table, and View.apply asserts it
TRANSITIONS: Final[dict[Execution, frozenset[Execution]]] = {
    E.PENDING_VERSION: frozenset({E.DELAYED, E.QUEUED, E.FINISHED}),
    E.DELAYED: frozenset({E.DELAYED, E.QUEUED, E.PENDING_VERSION, E.FINISHED}),
    E.QUEUED: frozenset({E.QUEUED, E.DEQUEUED, E.EXECUTING, E.PENDING_VERSION, E.PENDING_CANCEL, E.FINISHED}),
    E.DEQUEUED: frozenset({E.EXECUTING, E.QUEUED, E.PENDING_CANCEL, E.FINISHED}),
    E.EXECUTING: frozenset(
        {E.EXECUTING, E.EXECUTING_WITH_WAITPOINTS, E.SUSPENDED, E.QUEUED, E.PENDING_VERSION, E.PENDING_CANCEL, E.FINISHED},
    ),
    E.EXECUTING_WITH_WAITPOINTS: frozenset({E.EXECUTING, E.SUSPENDED, E.QUEUED, E.PENDING_CANCEL, E.FINISHED}),
    E.SUSPENDED: frozenset({E.QUEUED, E.EXECUTING, E.FINISHED}),
    E.PENDING_CANCEL: frozenset({E.PENDING_CANCEL, E.QUEUED, E.FINISHED}),
    E.FINISHED: frozenset(),
}


def fence(run: Run, epoch: int) -> Refusal | None:
    """Why a worker's write must not touch this run, or None."""
    if run.epoch != epoch:
        return Refusal("stale_epoch", f"run {run.id} was claimed again (epoch {run.epoch}, yours {epoch}): stop it", {"epoch": run.epoch})
    if run.execution is E.FINISHED:
        code = "run_cancelled" if run.status is Status.CANCELED else "run_final"
        return Refusal(code, f"run {run.id} is already {run.status.value}")
    if run.execution not in HOLDS_SLOT:
        return Refusal("stale_epoch", f"run {run.id} is not held by a worker now: stop it", {"epoch": run.epoch})
    return None


def born(run: Run, *, now: int) -> Change:
    """A new run: parked, delayed, or in its queue."""
    match run.execution:
        case E.PENDING_VERSION:
            return Change(run, "parked", (PARK,))
        case E.DELAYED if run.gated:
            return Change(run, "waits for its turn", ())
        case E.DELAYED:
            return Change(run, "delayed", (SET_TIMER,))
        case _:
            run, effects = queued(run, now=now)
            return Change(run, "triggered", effects)


def queued(run: Run, *, now: int) -> tuple[Run, tuple[Effect, ...]]:
    """The run as it enters its queue for the first time; its time to live starts here."""
    due_at = now + run.ttl_ms if run.ttl_ms else None
    run = replace(
        run, status=Status.QUEUED, execution=E.QUEUED, queued_at=run.queued_at or now, due_at=due_at, pos=run.pos + now, updated_at=now
    )
    return run, (ENQUEUE, SET_TIMER) if due_at else (ENQUEUE,)


def release(run: Run, *, now: int) -> Change | Refusal:
    """A delayed run is due. Its place in the queue counts from the due time."""
    if run.execution is not E.DELAYED or run.due_at is None:
        return Refusal("not_delayed", f"run {run.id} is {run.status.value}, not DELAYED")
    due_at = run.due_at
    if run.gated:
        return Change(replace(run, due_at=None, updated_at=now), "waits for its turn", (ClearTimer(due_at),))
    out, effects = queued(replace(run, queued_at=due_at, pos=run.pos - now + min(due_at, now)), now=now)
    return Change(out, "queued", (ClearTimer(due_at), *effects))


def admit(run: Run, *, now: int) -> Change | Refusal:
    """It is this run's turn: nothing of its gate executes any more."""
    if run.execution is not E.DELAYED or not run.gated:
        return Refusal("not_delayed", f"run {run.id} is {run.status.value} and does not wait for its turn")
    run = replace(run, gated=0, updated_at=now)
    if run.due_at is not None and run.due_at > now:
        return Change(run, "delayed", (SET_TIMER,))
    out, effects = queued(run, now=now)
    return Change(out, "queued", effects)


def push(run: Run, *, due_at: int, now: int) -> Change:
    """Debounced: the run waits on, never for a shorter time."""
    assert run.due_at is not None
    moved = replace(run, due_at=max(run.due_at, due_at), updated_at=now)
    if moved.due_at == run.due_at or run.execution is E.PENDING_VERSION or run.gated:
        return Change(moved, "debounced", ())
    return Change(moved, "debounced", (ClearTimer(run.due_at), SET_TIMER))


def unpark(run: Run, *, queue_id: int, queue: str, to: str, ttl_ms: int | None, now: int) -> Change | Refusal:
    """The task and queue of a parked run are known now. One that is still delayed goes on being delayed."""
    if run.execution is not E.PENDING_VERSION:
        return Refusal("invalid", f"run {run.id} is {run.status.value}, not PENDING_VERSION")
    if run.started_at is not None:  # it waited for a version that fits its journal
        return Change(replace(run, execution=E.QUEUED, updated_at=now), "resumed", (UNPARK, ENQUEUE))
    run = replace(run, queue_id=queue_id, queue=queue, route=to, ttl_ms=run.ttl_ms if run.ttl_ms is not None else ttl_ms, updated_at=now)
    if run.due_at is not None and run.due_at > now:
        return Change(replace(run, status=Status.DELAYED, execution=E.DELAYED), "delayed", (UNPARK, SET_TIMER))
    out, effects = queued(replace(run, due_at=None), now=now)
    return Change(out, "queued", (UNPARK, *effects))


def suspend(run: Run, *, epoch: int, seen: int, executor: str, active_ms: int, cpu_ms: int, now: int) -> Change | Refusal:
    """The run's code waits: its slot is free at once, its coroutine stays where it is."""
    if refusal := fence(run, epoch):
        return refusal
    if run.execution is not E.EXECUTING:
        return Refusal("run_cancelled", f"run {run.id} is being stopped")
    if run.next_seq > seen:
        return Refusal("newer", f"run {run.id} has {run.next_seq} completions, {seen} were given to its code", {"journal": run.journal})
    used = {"attempt_ms": max(active_ms, run.attempt_ms), "attempt_cpu_ms": max(cpu_ms, run.attempt_cpu_ms)}
    waiting = replace(run, status=Status.WAITING, execution=E.SUSPENDED, executor=executor, seen_seq=seen, updated_at=now, **used)
    return Change(waiting, "waiting", (FREE_SLOT,))


def go_cold(run: Run, *, epoch: int, now: int) -> Change | Refusal:
    """Nobody has the coroutine of a waiting run any more: it belongs to no executor, and whoever claims it replays it."""
    if run.epoch != epoch or (run.execution is not E.SUSPENDED and not run.resuming):
        return Refusal("stale_epoch", f"run {run.id} does not wait under epoch {epoch} now", {"epoch": run.epoch})
    return Change(replace(run, held_by=None, executor=None, updated_at=now), "cold", ())


def resume(run: Run, *, now: int, is_away: bool = False) -> Change:
    """What it waits for has come: back to its first place in the queue, in front of what was triggered later.

    `is_away`: the worker that has its coroutine is not known here. It alone may take the run for a while.
    """
    assert run.execution is E.SUSPENDED
    run = replace(run, execution=E.QUEUED, resuming=1, updated_at=now)
    if not is_away or run.held_by is None:
        return Change(run, "resumed", (ENQUEUE,))
    return Change(replace(run, route=held_route(run.held_by, run.route), due_at=now + HOLDER_MS), "resumed", (ENQUEUE, SET_TIMER))


def leave_holder(run: Run, *, now: int) -> Change:
    """Its worker did not come for it: any worker that has the code may go on by the journal."""
    assert run.execution is E.QUEUED
    assert run.due_at is not None
    due_at = None if run.cancel_asked is None else deadline(run.cancel_asked)
    moved = replace(run, route=home_route(run.route), due_at=due_at, updated_at=now)
    timer = (SET_TIMER,) if due_at is not None else ()
    return Change(moved, "holder away", (ClearTimer(run.due_at), DEQUEUE, ENQUEUE, *timer))


def claim(
    run: Run, *, session: str, version: str, pin: bool, executor: str | None = None, generation: int = 0, now: int
) -> Change | Refusal:
    """A worker with a free slot takes the run and starts it, in one write: attempt + 1 (not if it goes on), epoch + 1.

    `pin`: from now on only workers of this version may have the run (development, with one copy of the code, does not pin).
    `generation`: of the database, higher after a failover. The claims of an earlier one that were lost with it have lower epochs.
    """
    if run.execution is not E.QUEUED:
        return Refusal("not_claimed", f"run {run.id} is {run.status.value}, not QUEUED")
    effects: tuple[Effect, ...] = (ClearTimer(run.due_at),) if run.due_at is not None else ()
    taken = replace(
        run,
        epoch=max(run.epoch, generation * GENERATION_EPOCHS) + 1,
        held_by=session,
        executor=executor,
        version=run.version if pin and run.version else version,
        route=pinned(run.route, version) if pin else home_route(run.route),
        due_at=None,
        updated_at=now,
    )
    if run.cancel_asked is not None:  # its code is told at the wait; `resuming` stays, or who loses the run would not know why it ran
        stopping = replace(taken, execution=E.PENDING_CANCEL, due_at=now + CANCEL_DEADLINE_MS)
        return Change(stopping, "stopping", (*effects, SET_TIMER))
    started = replace(
        taken,
        status=Status.EXECUTING,
        execution=E.EXECUTING,
        attempt=run.attempt + 1 - run.resuming,
        resuming=0,
        started_at=run.started_at or now,
    )
    return Change(started, "continued" if run.resuming else "started", effects)


def expire(run: Run, *, now: int) -> Change | Refusal:
    """The time to live of a run that never started is over."""
    if run.execution is not E.QUEUED or run.started_at is not None or run.due_at is None or run.due_at > now:
        return Refusal("invalid", f"run {run.id} is {run.status.value} and cannot expire now")
    error = encode_failure(Failure(type="STRING_ERROR", message=f"Run expired because it did not start within its ttl of {run.ttl_ms} ms"))
    return finish(run, Status.EXPIRED, "expired", Finish(error=error), now=now)


def complete(run: Run, result: Result, *, now: int) -> Change | Refusal:
    """The worker reports the end of an attempt. A confirmation of a cancelled run never changes its final status."""
    if refusal := fence(run, result.epoch):
        return refusal
    if run.attempt != result.attempt:
        return Refusal("stale_epoch", f"run {run.id} is in attempt {run.attempt}, not {result.attempt}: stop it", {"epoch": run.epoch})
    run = replace(
        run,
        usage_ms=run.usage_ms + result.usage_ms,
        cpu_ms=run.cpu_ms + result.cpu_ms,
        peak_memory=max(run.peak_memory, result.peak_memory),
    )
    if run.execution is E.PENDING_CANCEL:
        return stopped_again(run, now=now) if result.outcome in ("lost", "crashed") else confirm_cancel(run, now=now)
    match result.outcome:
        case "ok":
            done = Finish(output=result.output, output_type=result.output_type, result_hash=result.hash)
            return finish(run, Status.COMPLETED, "completed", done, now=now)
        case "retry":
            return fail_attempt(run, result, now=now)
        case "parked":
            return park(run, result, now=now)
        case "timed_out":
            return _fail(run, Status.TIMED_OUT, result, now=now)
        case "lost":
            return lose_process(run, result, now=now)
        case "crashed":
            return _fail(run, Status.CRASHED, result, now=now)
        case _:
            return _fail(run, Status.FAILED, result, now=now)


def park(run: Run, result: Result, *, now: int) -> Change:
    """The code of this version does not fit the journal, which another one recorded: the run waits for a version that does."""
    parked = replace(run, status=Status.WAITING, execution=E.PENDING_VERSION, held_by=None, executor=None, resuming=1, updated_at=now)
    return Change(parked, "parked", (FREE_SLOT, PARK), {"reason": "JOURNAL_MISMATCH", "error": result.error_name, "failure": result.error})


def fail_attempt(run: Run, result: Result, *, now: int) -> Change:
    """A failed attempt that is to be tried again: in place after a short pause, through the queue after a long one."""
    if _is_last(run):
        return _fail(run, Status.FAILED, result, now=now)
    data: dict[str, object] = {"error": result.error_name, "retry_at": now + result.retry_delay_ms}
    if result.retry_delay_ms < WARM_RETRY_MS:
        following = run.attempt + 1
        again = replace(run, attempt=following, journal=following, next_seq=0, seen_seq=0, attempt_ms=0, attempt_cpu_ms=0, updated_at=now)
        return Change(again, "retrying", (), data)
    run = replace(run, journal=run.attempt + 1, next_seq=0, seen_seq=0, attempt_ms=0, attempt_cpu_ms=0)
    return _requeue(run, at=now + result.retry_delay_ms, reason="retrying", now=now, data=data)


def _is_last(run: Run) -> bool:
    return run.attempt >= MAX_ATTEMPTS or (run.max_attempts is not None and run.attempt - run.losses >= max(1, run.max_attempts))


def lose(run: Run, *, epoch: int, started: bool, give_up: bool, now: int) -> Change | Refusal:
    """The executor or worker that held the run is gone. The extra attempt is not counted; after two it is tried alone, three are poison.

    `give_up`: end the run instead of trying again (a stalled run in development).
    """
    if refusal := fence(run, epoch):
        return refusal
    if run.execution is E.PENDING_CANCEL:
        return stopped_again(run, began=started, now=now)
    if not started:
        return give_back(run, reason="delivery lost", now=now)
    losses = run.losses + 1
    lost = replace(run, losses=losses, attempt_ms=0, attempt_cpu_ms=0)
    stalled = internal("TASK_RUN_STALLED_EXECUTING", "the worker that executed the run was lost")
    if give_up:
        return finish(lost, Status.CANCELED, "worker lost", Finish(error=encode_failure(stalled)), now=now)
    if losses >= MAX_LOSSES:
        return _poison(lost, now=now)
    if run.attempt >= MAX_ATTEMPTS:
        return finish(lost, Status.CRASHED, "worker lost", Finish(error=encode_failure(stalled)), now=now)
    if losses >= ALONE_LOSSES and kind_of(run.route) != "process":
        lost = replace(lost, route=alone_route(run.route))
    # at once, or a newer run of a full queue would take the slot it had; it can come here twice only
    return _requeue(lost, at=now, reason="worker lost", now=now)


def _poison(run: Run, *, now: int) -> Change:
    text = f"{run.losses} workers were lost while they executed this run; it was taken for poison"
    return finish(run, Status.CRASHED, "poison", Finish(error=encode_failure(internal("TASK_RUN_CRASHED", text))), now=now)


def lose_process(run: Run, result: Result, *, now: int) -> Change:
    """The process that the run had for itself died. The attempt counts; its journal says nothing wrong, so the next one goes on with it.

    If it was alone because it had lost workers before, it was the reason.
    """
    if is_alone(run.route):
        return _poison(replace(run, losses=run.losses + 1), now=now)
    if _is_last(run):
        return _fail(run, Status.CRASHED, result, now=now)
    data: dict[str, object] = {"error": result.error_name}
    run = replace(run, attempt_ms=0)
    return _requeue(run, at=now + max(LOSS_BACKOFF_MS, result.retry_delay_ms), reason="process lost", now=now, data=data)


def give_back(run: Run, *, reason: str, now: int) -> Change:
    """A claimed run that never began: the attempt is given back and a delivery counted; the twelfth is the last."""
    if run.execution is E.PENDING_CANCEL:
        return stopped_again(run, began=False, now=now)
    back = replace(run, attempt=max(0, run.attempt - 1), deliveries=run.deliveries + 1)
    if reason in ("drain", "not_held"):
        back = replace(back, deliveries=run.deliveries)
    if back.deliveries >= MAX_DELIVERIES:
        error = internal(
            "TASK_RUN_DEQUEUED_MAX_RETRIES", f"dead letter: the run was handed to a worker {back.deliveries} times and never began"
        )
        return finish(back, Status.SYSTEM_FAILURE, "dead letter", Finish(error=encode_failure(error)), now=now)
    return _requeue(back, at=now, reason=reason, now=now)


def reschedule(run: Run, *, due_at: int, now: int) -> Change | Refusal:
    if run.execution is not E.DELAYED or run.due_at is None:
        return Refusal("not_delayed", f"run {run.id} is {run.status.value}: only a DELAYED run can be rescheduled")
    return Change(replace(run, due_at=due_at, updated_at=now), "rescheduled", (ClearTimer(run.due_at), SET_TIMER))


def retry_due(run: Run, *, now: int) -> Change | Refusal:
    """A long retry's pause is over: back into the queue, where the run keeps its first place."""
    if run.execution is not E.QUEUED or run.lane_id is not None or run.due_at is None or run.due_at > now:
        return Refusal("invalid", f"run {run.id} does not wait for a retry")
    return Change(replace(run, status=Status.QUEUED, due_at=None, updated_at=now), "queued", (ClearTimer(run.due_at), ENQUEUE))


def _requeue(run: Run, *, at: int, reason: str, now: int, data: dict[str, object] | None = None) -> Change:
    back = replace(run, execution=E.QUEUED, held_by=None, executor=None, updated_at=now)
    if at <= now:
        return Change(replace(back, status=Status.QUEUED, due_at=None), reason, (FREE_SLOT, ENQUEUE), data)
    # between attempts users see EXECUTING ("Reattempting"), as in Trigger.dev
    waiting = replace(back, status=Status.EXECUTING, due_at=at, lane_id=None)
    return Change(waiting, reason, (FREE_SLOT, SET_TIMER), data)


def _fail(run: Run, status: Status, result: Result, *, now: int) -> Change:
    done = Finish(error=result.error, result_hash=result.hash)
    return finish(run, status, "failed", done, now=now, data={"error": result.error_name})
