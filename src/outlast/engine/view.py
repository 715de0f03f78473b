"""The in-memory view a flush folds its operations over. `View.apply` is the only place where a run changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import assert_never

import msgspec

from outlast.engine.catalog import Catalog, Placement
from outlast.engine.clock import Clock
from outlast.engine.flow import Flow
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.stream_rows import StreamRows
from outlast.engine.writes import Writes
from outlast.model import lifecycle
from outlast.model.change import (
    CancelChildren,
    Change,
    ClearTimer,
    Dequeue,
    Effect,
    Enqueue,
    Finish,
    FreeSlot,
    Park,
    SetTimer,
    TellWorker,
    Unpark,
)
from outlast.model.journal import Entry, EntryStatus, entry_id
from outlast.model.lane import Lane
from outlast.model.lifecycle import TRANSITIONS
from outlast.model.refusal import Refusal
from outlast.model.run import FAILED, Event, Execution, Run, RunData, Status
from outlast.store import journal
from outlast.store.batches import Batch
from outlast.store.database import Connection
from outlast.store.idempotency import Key
from outlast.store.lanes import LaneKey
from outlast.store.sessions import Session
from outlast.store.waitpoints import Token

TIMER = "run"
WAIT_TIMER = "wait"  # of an entry of a journal


class Told(msgspec.Struct, frozen=True):
    """A worker that must hear of a change after the commit."""

    session: str
    run_id: str
    epoch: int


class Pushed(msgspec.Struct, frozen=True):
    """A completion for a run that executes now; its worker is given it after the commit."""

    session: str
    run_id: str
    epoch: int
    journal: int
    entry: Entry


class View:
    """Loaded rows, what was decided over them, and what must happen after the commit."""

    def __init__(
        self, tx: Connection, catalog: Catalog, *, clock: Clock, new_id: Callable[[str, int], str], connected: Collection[str] = ()
    ) -> None:
        self.tx = tx
        self.connected = connected  # sessions of workers that this server speaks with
        self.catalog = catalog
        self._clock = clock
        self.now = clock.now()
        self.wall = clock.wall()  # what leases are judged by
        self._new_id = new_id
        self.runs: dict[str, Run] = {}
        self.data: dict[str, RunData] = {}
        self.hashes: dict[str, str | None] = {}
        self.lanes: dict[int, Lane] = {}
        self.lane_ids: dict[LaneKey, int] = {}
        self.keys: dict[Key, tuple[str, int]] = {}
        self.requests: dict[str, tuple[str, str | None]] = {}
        self.batches: dict[str, Batch] = {}
        self.batch_items: dict[tuple[str, int], str | None] = {}
        self.sessions: dict[str, Session] = {}
        self.entries: dict[str, Entry] = {}
        self.tokens: dict[str, Token] = {}
        self.flow = Flow()
        self.streams = StreamRows()
        self.loaded = Rows()
        self.writes = Writes()
        self.events: dict[str, Event] = {}
        self.finished: set[str] = set()
        self.told: list[Told] = []
        self.pushed: list[Pushed] = []
        self.woken: set[int] = set()  # environments in which something became claimable
        self.roomy: set[int] = set()  # environments so far from their limit that a free slot lets nobody in
        self.queued: dict[str, None] = {}  # runs that were put in their queue, in order
        self.settled: dict[str, list[str]] = {}  # by run: entries that completed in this flush
        self.topics: set[tuple[int, str]] = set()  # (environment, topic) of what changed and is no run
        self.catalog_changed = False
        self.new_lanes: dict[LaneKey, tuple[int, int]] = {}

    def locked(self) -> None:
        """Whoever waited for a lock sees what was written meanwhile, and must not date its own changes before it."""
        self.now = self._clock.now()

    def new_id(self, prefix: str) -> str:
        return self._new_id(prefix, self.now)

    def run(self, run_id: str, env_id: int | None = None) -> Run | None:
        """The run; None when there is none, or when it belongs to another environment."""
        if run_id not in self.loaded.runs and run_id not in self.loaded.light and run_id not in self.runs:
            raise NeedsLock(Rows(runs={run_id}))
        run = self.runs.get(run_id)
        return run if run is not None and (env_id is None or run.env_id == env_id) else None

    def apply(self, change: Change | Refusal) -> Run | Refusal:
        """The only place where a run changes."""
        if isinstance(change, Refusal):
            return change
        run, old = change.run, self.runs.get(change.run.id)
        if old is None:
            run = msgspec.structs.replace(run, snapshot=1)
        else:
            assert run.execution in TRANSITIONS[old.execution] or run.execution is old.execution, f"{old.execution} → {run.execution}"
            if run.id not in self.events:
                run = msgspec.structs.replace(run, snapshot=old.snapshot + 1)
            if run.journal != old.journal:
                self.writes.ended_journals.add(run.id)
        for effect in change.effects:
            run = self._effect(run, old, effect)
        self.runs[run.id] = run
        self.writes.changed.add(run.id)
        if run.gate is not None and run.execution is Execution.FINISHED:
            self._open_gate(run, run.gate)
        self._record(run, change)
        return run

    def bear(self, change: Change, data: RunData) -> Run:
        """A run that did not exist."""
        self.writes.born[change.run.id] = data
        run = self.apply(change)
        assert isinstance(run, Run)
        return run

    def _record(self, run: Run, change: Change) -> None:
        data = {"status": run.status.value, "execution": run.execution.value, "epoch": run.epoch, "attempt": run.attempt}
        if change.data:
            data.update(change.data)
        earlier = self.events.get(run.id)
        if earlier is not None:
            data = {**earlier.data, **data}
        kind = f"{earlier.kind}, {change.reason}" if earlier is not None else change.reason
        self.events[run.id] = Event(run_id=run.id, env_id=run.env_id, n=run.snapshot, kind=kind, at=self.now, data=data)

    def _effect(self, run: Run, old: Run | None, effect: Effect) -> Run:
        writes = self.writes
        match effect:
            case Enqueue():
                return self._enqueue(run)
            case Dequeue():
                self._dequeue(run)
                return msgspec.structs.replace(run, lane_id=None)
            case FreeSlot():
                self._free_slot(old or run)
                # a requeue follows with a lane of its own
                return msgspec.structs.replace(run, lane_id=None)
            case SetTimer():
                assert run.due_at is not None
                writes.gone_timers.discard((run.due_at, TIMER, run.id))
                writes.timers.add((run.due_at, TIMER, run.id))
            case ClearTimer(due_at):
                timer = (due_at, TIMER, run.id)
                if timer in writes.timers:
                    writes.timers.discard(timer)
                else:
                    writes.gone_timers.add(timer)
            case Park():
                writes.parked[run.id] = (run.env_id, run.task, run.id, run.queue)
            case Unpark():
                if writes.parked.pop(run.id, None) is None:
                    writes.unparked.append((run.env_id, run.task, run.id))
            case Finish():
                self._finish(run, old, effect)
            case CancelChildren():
                writes.work.append((self.new_id("work"), "cancel_children", run.id, self.now))
            case TellWorker():
                if old is not None and old.held_by is not None:
                    self.told.append(Told(old.held_by, run.id, run.epoch))
            case _:
                assert_never(effect)
        return run

    def _finish(self, run: Run, old: Run | None, done: Finish) -> None:
        self.writes.results[run.id] = done
        self.hashes[run.id] = done.result_hash
        self.finished.add(run.id)
        if run.status in FAILED:
            self.writes.failures.append((run.env_id, run.id))
        # a run that went well without a completion has waited for nothing; one that was stopped may have begun to
        if old is not None and (old.next_seq or old.execution is Execution.SUSPENDED or run.status is not Status.COMPLETED):
            self.writes.ended_journals.add(run.id)
        self._tell_waiters(run, done)
        if run.batch_id is None:
            return
        batch = self.batch(run.batch_id)
        if batch is not None:
            batch.remaining -= 1
            self._touch_batch(batch)

    def _open_gate(self, run: Run, name: str) -> None:
        """It ended: the next in line may begin, or it is the one in line that gave up."""
        if run.gated:
            if self.flow.waiting.pop(run.id, None) is None:
                self.flow.admitted[run.id] = (run.env_id, name)
        else:
            self.writes.work.append((self.new_id("work"), "gate", f"{run.env_id}:{name}", self.now))

    def batch(self, batch_id: str) -> Batch | None:
        if batch_id not in self.loaded.batches and batch_id not in self.batches:
            raise NeedsLock(Rows(batches={batch_id}))
        return self.batches.get(batch_id)

    def _touch_batch(self, batch: Batch) -> None:
        batch.updated_at = self.now
        if batch.remaining == 0 and batch.sealed_at is not None and batch.completed_at is None:
            batch.completed_at = self.now
            if batch.parent_id is not None and batch.parent_key is not None:
                self.settle(batch.parent_id, batch.parent_key, "ok")
        self.writes.batches.add(batch.id)

    touch_batch = _touch_batch

    # ---- journals

    def entry(self, id: str) -> Entry | None:
        if id not in self.loaded.entries and id not in self.entries:
            raise NeedsLock(Rows(entries={id}))
        return self.entries.get(id)

    def token(self, id: str) -> Token | None:
        if id not in self.loaded.tokens and id not in self.tokens:
            raise NeedsLock(Rows(tokens={id}))
        return self.tokens.get(id)

    def new_waiters(self, id: str) -> list[tuple[str, str]]:
        """Who began to wait for it in this flush."""
        return [(run_id, journal_key) for waitpoint, run_id, journal_key in self.writes.waiters if waitpoint == id]

    def record(self, run: Run, entry: Entry) -> Entry:
        """A new entry of the run's journal; one that is done already takes the next place in the order of delivery."""
        id_ = entry_id(run.id, run.journal, entry.key)
        if entry.status != "pending":
            entry = msgspec.structs.replace(entry, seq=run.next_seq, due_at=None, ended_at=self.now)
            self._count(run)
        elif entry.due_at is not None:
            self.writes.timers.add((entry.due_at, WAIT_TIMER, id_))
        self.entries[id_] = entry
        self.writes.born_entries[id_] = (run.id, run.journal, run.epoch, run.version or "", entry)
        return entry

    def rewrite(self, run: Run, entry: Entry) -> None:
        """An entry that is not pending any more; its timer goes with that."""
        id_ = entry_id(run.id, run.journal, entry.key)
        if entry.due_at is not None:
            timer = (entry.due_at, WAIT_TIMER, id_)
            if timer in self.writes.timers:
                self.writes.timers.discard(timer)
            else:
                self.writes.gone_timers.add(timer)
            entry = msgspec.structs.replace(entry, due_at=None)
        self.entries[id_] = entry
        if (born := self.writes.born_entries.get(id_)) is not None:
            self.writes.born_entries[id_] = (*born[:4], entry)
        else:
            self.writes.journal[id_] = entry

    def settle(self, run_id: str, journal_key: str, status: EntryStatus, value: str | None = None, value_type: str | None = None) -> None:
        """What a run waited for has come. `journal_key` is "journal:key"; one of an earlier journal is not waited for any more."""
        self.need([(run_id, journal_key)])
        run = self.run(run_id)
        if run is None or run.is_final or journal_key.partition(":")[0] != str(run.journal):
            return
        entry = self.entry(f"{run_id}:{journal_key}")
        if entry is None or entry.status != "pending":
            return
        entry = msgspec.structs.replace(entry, status=status, seq=run.next_seq, value=value, value_type=value_type, ended_at=self.now)
        self.rewrite(run, entry)
        self.settled.setdefault(run_id, []).append(f"{run_id}:{journal_key}")
        run = self._count(run)
        if run.execution is Execution.SUSPENDED:
            self.apply(lifecycle.resume(run, now=self.now, is_away=self.is_away(run)))
        elif run.execution is Execution.EXECUTING and run.held_by is not None:
            self.pushed.append(Pushed(run.held_by, run.id, run.epoch, run.journal, entry))

    def is_away(self, run: Run) -> bool:
        """Whether its coroutine is with a worker that is connected to another server, or to none at this moment."""
        return run.held_by is not None and run.held_by not in self.connected

    def need(self, waiters: Sequence[tuple[str, str]]) -> None:
        """All that is missing at once: a flush is run again only a few times."""
        missing = Rows()
        for run_id, journal_key in waiters:
            id_ = f"{run_id}:{journal_key}"
            if run_id not in self.loaded.runs and run_id not in self.runs:
                missing.runs.add(run_id)
            if id_ not in self.loaded.entries and id_ not in self.entries:
                missing.entries.add(id_)
        if missing.runs or missing.entries:
            raise NeedsLock(missing)

    def _count(self, run: Run) -> Run:
        """One completion more: a counter, not a change that anybody must hear of."""
        run = self.runs[run.id] = msgspec.structs.replace(self.runs[run.id], next_seq=run.next_seq + 1)
        self.writes.changed.add(run.id)
        return run

    def _tell_waiters(self, run: Run, done: Finish) -> None:
        ok = run.status is Status.COMPLETED
        value, value_type = (done.output, done.output_type) if ok else (done.error, None)
        if run.parent_id is not None and run.parent_key is not None:
            self.settle(run.parent_id, run.parent_key, "ok" if ok else "error", value, value_type)
        if run.pending_waits:
            waiters = journal.waiters(self.tx, [run.id])()
            self.need(waiters)
            for waiter, journal_key in waiters:
                self.settle(waiter, journal_key, "ok" if ok else "error", value, value_type)
            self.writes.gone_waiters.append(run.id)

    # ---- lanes

    def lane(self, lane_id: int) -> Lane:
        found = self.lanes.get(lane_id)
        if found is None:  # of a run that was loaded without its lanes
            raise NeedsLock(Rows(runs={run.id for run in self.runs.values() if run.lane_id == lane_id}))
        return found

    def lane_for(self, run: Run) -> Lane:
        assert run.queue_id is not None
        key = (run.queue_id, run.concurrency_key or "", run.route)
        lane_id = self.lane_ids.get(key)
        if lane_id is None:
            raise NeedsLock(Rows(lanes={key: run.env_id}))
        return self.lane(lane_id)

    def _touch(self, lane: Lane) -> None:
        self.writes.lanes.add(lane.id)
        self.writes.bases.add(lane.base_id)

    def _enqueue(self, run: Run) -> Run:
        lane = self.lane_for(run)
        if not lane.queued:
            lane.head = run.pos
        elif lane.head is not None:
            lane.head = min(lane.head, run.pos)
        lane.queued += 1
        self._touch(lane)
        self.writes.entries[run.id] = (lane.id, run.pos, run.id)
        self.queued[run.id] = None
        return msgspec.structs.replace(run, lane_id=lane.id)

    def _dequeue(self, run: Run) -> None:
        assert run.lane_id is not None
        lane = self.lane(run.lane_id)
        lane.queued -= 1
        lane.head = None  # looked up when it is written
        self._touch(lane)
        if self.writes.entries.pop(run.id, None) is None:
            self.writes.gone_entries.append((run.lane_id, run.pos, run.id))

    def _free_slot(self, run: Run) -> None:
        assert run.lane_id is not None
        base = self.lane(self.lane(run.lane_id).base_id)
        base.used -= 1
        assert base.used >= 0, f"lane {base.id} would have {base.used} slots"
        self._touch(base)
        self.writes.gone_slots.append((run.id,))
        if run.env_id not in self.roomy or any(lane.queued for lane in self.lanes.values() if lane.base_id == base.id):
            self.woken.add(run.env_id)

    def take_slot(self, run: Run, *, session: str, executor: str) -> None:
        """The claim's half of a slot: its entry becomes a slot of the same lane."""
        assert run.lane_id is not None
        lane = self.lane(run.lane_id)
        lane.queued -= 1
        lane.head = None
        base = self.lane(lane.base_id)
        base.used += 1
        self._touch(lane)
        self._touch(base)
        if self.writes.entries.pop(run.id, None) is None:
            self.writes.gone_entries.append((run.lane_id, run.pos, run.id))
        self.writes.slots.append((run.id, run.env_id, run.lane_id, session, executor, run.epoch, self.now, None))

    def place(self, env_id: int, task: str, queue: str | None, version: str | None) -> Placement:
        return self.catalog.place(self.tx, env_id, task, queue, version)
