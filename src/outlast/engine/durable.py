"""Durable operations of a run: recorded in its journal, in the transaction that makes what they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from outlast.engine import cancelling, continued, streams, tokens, triggers
from outlast.engine.operation import Lane, operation
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import WAIT_TIMER, View
from outlast.model import lifecycle
from outlast.model.failure import DEADLOCK, Failure, internal
from outlast.model.journal import REFUSED, TIMED_OUT, Entry, entry_id
from outlast.model.refusal import Refusal
from outlast.model.requests import (
    BatchCreated,
    CreateBatch,
    FailBatchItem,
    Forsake,
    GoCold,
    Record,
    Suspend,
    Trigger,
    Triggered,
    WaitOver,
    Wake,
)
from outlast.model.result import encode_failure
from outlast.model.run import Execution, Run, Status
from outlast.store import batches, journal, runs
from outlast.store.database import Connection, Later

WAITS = "waitpoint/datetime"  # no task's id: the keys of waits share a table with those of runs; what such a key holds is an end
CANCEL_BATCH = "cancel_batch"  # a work item: some hundred runs per transaction
CANCEL_FAILED_BATCH = "cancel_failed_batch"  # the same, of an attempt that is tried again


def _needs_entry(item: Record | Forsake, wants: Rows) -> None:
    wants.light.add(item.run_id)
    key = item.entry.key if isinstance(item, Record) else item.key
    wants.entries.add(entry_id(item.run_id, item.journal, key))
    if isinstance(item, Record):
        if item.wait_key is not None:
            wants.keys.add((item.wait_key[0], WAITS, item.wait_key[1]))
        if item.entry.kind == "continue":
            wants.runs.add(item.run_id)
            wants.data.add(item.run_id)
        for child in _children(item):
            triggers.needs(child, wants)
        if item.token_id is not None:
            wants.tokens.add(item.token_id)


def _children(r: Record) -> list[Trigger]:
    return [r.child] if r.child is not None else [item for item in r.items if isinstance(item, Trigger)]


def _lanes(view: View, r: Record) -> Iterable[Lane]:
    return {key: env_id for child in _children(r) for key, env_id in triggers.lane(view, child)}.items()


def _alone(records: Sequence[Record]) -> Callable[[Connection], Later[Sequence[Entry | None]]] | None:
    return partial(_append, records) if all(_is_plain(r) for r in records) else None


def _append(records: Sequence[Record], tx: Connection) -> Later[Sequence[Entry | None]]:
    """Steps and their like change nothing but the journal and its counter."""
    first: dict[str, Record] = {}
    for r in records:
        first.setdefault(entry_id(r.run_id, r.journal, r.entry.key), r)
    answer = journal.append(tx, [(r.run_id, r.journal, r.epoch, r.entry) for r in first.values()])

    def entries() -> list[Entry | None]:
        seqs = answer()
        written = {id(r): replace(r.entry, seq=seqs[key]) for key, r in first.items() if key in seqs}
        return [written.get(id(r)) for r in records]

    return entries


def _is_plain(r: Record) -> bool:
    return (
        r.entry.status != "pending"
        and r.child is None
        and not r.items
        and r.entry.due_at is None
        and r.token_id is None
        and r.input is None
    )


@operation(needs=_needs_entry, lanes=_lanes, alone=_alone)
def record(view: View, r: Record) -> Entry | Refusal:
    """Once, however often it is sent: the entry that is there already is the answer."""
    run = view.run(r.run_id)
    if run is None:
        return Refusal("not_found", f"run {r.run_id} does not exist")
    if refusal := fence(run, r.epoch, r.journal):
        return refusal
    known = view.entry(entry_id(r.run_id, r.journal, r.entry.key))
    if known is not None:
        return known
    made = _made(view, run, r)
    if isinstance(made, Refusal):
        # recorded too: whoever replays this must be refused again, also when it would be possible by then
        failure = internal(DEADLOCK, made.message) if made.code == "deadlock" else Failure(name="Unprocessable", message=made.message)
        made = view.record(run, replace(r.entry, status="error", value=encode_failure(failure), value_type=REFUSED))
    return made


def _made(view: View, run: Run, r: Record) -> Entry | Refusal:
    if r.child is not None and r.entry.kind == "continue":
        return continued.record(view, run, r.entry, r.child)
    if r.child is not None:
        return _record_child(view, run, r.entry, r.child)
    if r.items:
        return _record_batch(view, run, r)
    if r.input is not None:
        return streams.wait_for(view, run, r.entry, r.input)
    if r.token_id is not None:
        return tokens.wait_for(view, run, r.entry, r.token_id, f"{run.journal}:{r.entry.key}")
    if r.entry.kind == "wait" and r.entry.due_at is not None:
        due_at = _due_at(view, r.entry.due_at, r.wait_key)
        if due_at > view.now:
            return view.record(run, replace(r.entry, due_at=due_at, status="pending"))
    return view.record(run, r.entry)


def _due_at(view: View, due_at: int, key: tuple[int, str, int] | None) -> int:
    """A wait whose key was used ends when that one ended: over, it is passed over."""
    if key is None:
        return due_at
    env_id, hash_, ttl_ms = key
    taken = (env_id, WAITS, hash_)
    holder = view.keys.get(taken)
    if holder is not None and holder[1] > view.now:
        return int(holder[0])
    expires_at = view.now + ttl_ms
    view.keys[taken] = (str(due_at), expires_at)
    view.writes.keys.append((*taken, str(due_at), expires_at, holder[0] if holder is not None else None))
    return due_at


def fence(run: Run, epoch: int, journal: int) -> Refusal | None:
    # a task that the run does not wait for may go on while the run is suspended; it is still the same execution
    if run.execution is Execution.SUSPENDED and run.epoch == epoch and run.journal == journal:
        return None
    if refusal := lifecycle.fence(run, epoch):
        return refusal
    if run.execution is Execution.PENDING_CANCEL:
        return Refusal("run_cancelled", f"run {run.id} was cancelled")
    if run.journal != journal:
        return Refusal("stale_epoch", f"run {run.id} keeps the journal of attempt {run.journal}, not {journal}: stop it")
    return None


def _record_child(view: View, run: Run, entry: Entry, child: Trigger) -> Entry | Refusal:
    waits = entry.kind == "trigger_and_wait"
    journal_key = f"{run.journal}:{entry.key}"
    made = triggers.trigger.decide(view, replace(child, parent_id=run.id, parent_key=journal_key if waits else None))
    if isinstance(made, Refusal):
        return made
    entry = replace(entry, ref=made.run_id)
    if not waits:
        return view.record(run, replace(entry, status="ok"))
    if not made.is_cached:
        return view.record(run, replace(entry, status="pending"))
    return _wait_for_existing(view, run, entry, made, journal_key)


def _wait_for_existing(view: View, run: Run, entry: Entry, made: Triggered, journal_key: str) -> Entry | Refusal:
    """The child's idempotency key had made it before, for somebody else."""
    child = view.run(made.run_id)
    assert child is not None
    if _waits_for(view, child, run):
        return Refusal("deadlock", f"run {child.id} waits for {run.id}, or for one that does, so this wait could never end")
    if child.is_final:
        data = view.data.get(child.id)
        if data is None:
            raise NeedsLock(Rows(data={child.id}))
        if child.status is Status.COMPLETED:
            return view.record(run, replace(entry, status="ok", value=data.output, value_type=data.output_type))
        return view.record(run, replace(entry, status="error", value=data.error))
    view.writes.waiters.append((child.id, run.id, journal_key))
    view.runs[child.id] = replace(child, pending_waits=child.pending_waits + 1)
    view.writes.changed.add(child.id)
    return view.record(run, replace(entry, status="pending"))


def _waits_for(view: View, other: Run, run: Run) -> bool:
    """`other` is the run itself, or waits for it over parents that wait for their children."""
    node: Run | None = run
    while node is not None and node.id != other.id:
        batch = view.batches.get(node.batch_id) if node.batch_id is not None else None
        if node.parent_id is None or (node.parent_key is None and (batch is None or batch.parent_key is None)):
            return False
        node = view.runs.get(node.parent_id) or next(iter(runs.read(view.tx, [node.parent_id])), None)
    return node is not None


def _record_batch(view: View, run: Run, r: Record) -> Entry:
    waits = r.entry.kind == "batch_and_wait"
    env_id = run.env_id
    parent_key = f"{run.journal}:{r.entry.key}" if waits else None
    asked = CreateBatch(env_id=env_id, count=len(r.items), parent_id=run.id, parent_key=parent_key)
    created = triggers.create_batch.decide(view, asked)
    assert isinstance(created, BatchCreated)  # only one-time tokens are ever refused
    batch_id = created.batch_id
    # before its children: when none could be made, the batch is over at once
    entry = view.record(run, replace(r.entry, status="pending" if waits else "ok", ref=batch_id))
    for index, item in enumerate(r.items):
        task, error = item if isinstance(item, tuple) else (item.task, "")
        if isinstance(item, Trigger):
            made = triggers.trigger.decide(view, replace(item, parent_id=run.id, batch_id=batch_id, batch_index=index))
            if isinstance(made, Triggered):
                continue
            error = made.message
        failed = FailBatchItem(env_id=env_id, batch_id=batch_id, index=index, task=task[:128], error=error[:4_000])
        triggers.fail_batch_item.decide(view, failed)
    return view.entry(entry_id(run.id, run.journal, entry.key)) or entry


@operation(needs=_needs_entry)
def forsake(view: View, f: Forsake) -> None:
    """Nobody waits for it any more, live; so nobody may be given it in a replay. What it made goes on."""
    run = view.run(f.run_id)
    if run is None or fence(run, f.epoch, f.journal) is not None:
        return
    entry = view.entry(entry_id(f.run_id, f.journal, f.key))
    is_over = entry is None or entry.status not in ("pending", "abandoned")
    # what was only triggered goes on, save when the next attempt makes its own
    if entry is None or (is_over and not (f.again and entry.kind in ("trigger", "batch"))):
        return
    if f.cancel and entry.ref is not None:
        _cancel_made(view, run, entry, again=f.again)
    if entry.status == "pending":
        view.rewrite(run, replace(entry, status="abandoned"))


def _cancel_made(view: View, run: Run, entry: Entry, *, again: bool) -> None:
    """The runs of an operation nobody needs any more. One that others made by the same idempotency key is theirs."""
    assert entry.ref is not None
    if entry.kind in ("batch", "batch_and_wait"):
        view.writes.work.append((view.new_id("work"), CANCEL_FAILED_BATCH if again else CANCEL_BATCH, entry.ref, view.now))
    elif entry.kind in ("trigger", "trigger_and_wait"):
        child = view.run(entry.ref, run.env_id)
        parent_key = f"{run.journal}:{entry.key}" if entry.kind == "trigger_and_wait" else None
        if child is None or child.is_final or (child.parent_id, child.parent_key) != (run.id, parent_key):
            return
        if not (again and cancelling.outlives_attempt(view, child)):
            cancelling.cancel(view, child, reason=f"its parent {run.id} needs it no more")


def _needs_unanswered(s: Suspend, wants: Rows) -> None:
    wants.runs.add(s.run_id)
    wants.entries.update(entry_id(s.run_id, s.journal, key) for key in s.unanswered)


@operation(needs=_needs_unanswered)
def suspend(view: View, s: Suspend) -> Run | Refusal:
    run = view.run(s.run_id)
    if run is None:
        return Refusal("not_found", f"run {s.run_id} does not exist")
    if run.epoch == s.epoch and run.journal != s.journal:  # an attempt that was over already; the next one runs under its epoch
        return Refusal("stopping", f"run {s.run_id} keeps the journal of attempt {run.journal} now, not {s.journal}")
    if run.epoch == s.epoch and (run.execution is Execution.SUSPENDED or run.resuming):
        return run  # said again: the answer was lost
    if any(view.entry(entry_id(s.run_id, s.journal, key)) is None for key in s.unanswered):
        # it was refused a moment ago, which the code has not heard yet: nobody would ever wake the run
        return Refusal("newer", f"run {s.run_id} waits for an operation that was refused", {"journal": s.journal})
    waiting = lifecycle.suspend(run, epoch=s.epoch, seen=s.seen, executor=s.executor, active_ms=s.active_ms, cpu_ms=s.cpu_ms, now=view.now)
    return view.apply(waiting)


def _needs_run(g: GoCold | Wake, wants: Rows) -> None:
    wants.runs.add(g.run_id)


@operation(needs=_needs_run)
def go_cold(view: View, g: GoCold) -> Run | Refusal:
    run = view.run(g.run_id)
    if run is None:
        return Refusal("not_found", f"run {g.run_id} does not exist")
    return view.apply(lifecycle.go_cold(run, epoch=g.epoch, now=view.now))


@operation(needs=_needs_run)
def wake(view: View, w: Wake) -> Run | Refusal:
    """Who moves has a slot, also when what moves it is no durable operation."""
    run = view.run(w.run_id)
    if run is None:
        return Refusal("not_found", f"run {w.run_id} does not exist")
    if run.execution is not Execution.SUSPENDED or run.epoch != w.epoch:
        return Refusal("newer", f"run {w.run_id} does not wait under epoch {w.epoch}")
    return view.apply(lifecycle.resume(run, now=view.now))


def _needs_wait(w: WaitOver, wants: Rows) -> None:
    wants.runs.add(w.run_id)
    wants.entries.add(w.entry_id)


@operation(needs=_needs_wait)
def wait_over(view: View, w: WaitOver) -> None:
    """What it waited for has not come in time: that is a result, and stays one in every replay."""
    if w.due_at > view.now:
        return
    view.writes.gone_timers.add((w.due_at, WAIT_TIMER, w.entry_id))
    entry, journal_key = view.entry(w.entry_id), w.entry_id.partition(":")[2]
    if entry is None or entry.kind == "wait":
        return view.settle(w.run_id, journal_key, "ok")
    if entry.kind == "batch_and_wait" and entry.ref:
        done = msgspec.json.encode(batches.finished(view.tx, entry.ref)).decode()
        return view.settle(w.run_id, journal_key, "error", done, TIMED_OUT)
    what = f"token {entry.ref}" if entry.kind == "token" else f"run {entry.ref} of {entry.label}"
    failure = Failure(name="WaitTimedOut", message=f"{what} was not over in time: its wait had a timeout")
    return view.settle(w.run_id, journal_key, "error", encode_failure(failure), TIMED_OUT)
