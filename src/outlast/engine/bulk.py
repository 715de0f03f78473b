"""Bulk actions: begun by a request, done by upkeep in steps, each a transaction with its own mark of how far it came."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import cancelling, gates, triggers
from outlast.engine.operation import Lane, operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model.bulk import AbortBulk, BulkAction, StartBulk, StepBulk, Target
from outlast.model.limits import MAX_BULK_REPLAYS
from outlast.model.refusal import Refusal
from outlast.model.requests import Replay, Trigger
from outlast.model.run import Run
from outlast.store import bulk as store

STEP = 50  # runs in one transaction


def _needs_nothing(_: StartBulk | AbortBulk, __: Rows) -> None:
    return


@operation(needs=_needs_nothing)
def start_bulk(view: View, s: StartBulk) -> BulkAction | Refusal:
    if s.type == "REPLAY" and store.pending_replays(view.tx, s.env_id) >= MAX_BULK_REPLAYS:
        return Refusal("too_many", f"{MAX_BULK_REPLAYS} bulk replays are under way in this environment: wait for one to end, or abort it")
    action = BulkAction(
        id=view.new_id("bulk"), env_id=s.env_id, type=s.type, name=s.name, filter=s.filter, run_ids=s.run_ids, undo_of=s.undo_of,
        total=s.total, created_at=view.now,
    )  # fmt: skip
    store.insert(view.tx, action)
    view.writes.work.append((view.new_id("work"), "bulk", f"{s.env_id}:{action.id}", view.now))
    return action


@operation(needs=_needs_nothing)
def abort_bulk(view: View, a: AbortBulk) -> BulkAction | Refusal:
    """What is done stays done; the step under way may still end."""
    action = store.one(view.tx, a.env_id, a.bulk_id, lock=True)
    if action is None:
        return Refusal("not_found", "Bulk action not found")
    if action.status == "PENDING":
        action = replace(action, status="ABORTED", completed_at=view.now)
        store.save(view.tx, action)
    return action


def _needs_targets(s: StepBulk, wants: Rows) -> None:
    wants.runs.update(target.run_id for target in s.targets)
    wants.data.update(target.run_id for target in s.targets)


def _replays(s: StepBulk) -> list[Trigger]:
    return [Trigger(env_id=s.env_id, task=t.task, queue=t.queue, concurrency_key=t.concurrency_key) for t in s.targets if t.task]


def _lanes(view: View, s: StepBulk) -> list[Lane]:
    return [lane for trigger in _replays(s) for lane in triggers.lane(view, trigger)]


def _gates(view: View, s: StepBulk, wants: Rows) -> None:
    for trigger in _replays(s):
        if gate := gates.of(view, trigger):
            wants.gates.add((s.env_id, gate[0]))


@operation(needs=_needs_targets, lanes=_lanes, also=_gates)
def step_bulk(view: View, s: StepBulk) -> bool:
    """Whether there may be more to do. Two servers at the same place: the second finds the cursor moved, and does nothing."""
    action = store.one(view.tx, s.env_id, s.bulk_id, lock=True)
    if action is None or action.status != "PENDING":
        view.writes.gone_work.append((s.work_id,))
        return False
    if action.cursor != s.cursor:
        return True
    if not s.targets:
        store.save(view.tx, replace(action, status="COMPLETED", completed_at=view.now, total=action.success + action.failure))
        view.writes.gone_work.append((s.work_id,))
        return False
    if action.type == "CANCEL":
        cancelling.need_waiters(view, [view.run(target.run_id, action.env_id) for target in s.targets])
    items = [_one(view, action, target) for target in s.targets]
    store.add_items(view.tx, items)
    failed = sum(error is not None for *_, error in items)
    done = replace(
        action, cursor=s.targets[-1].run_id, success=action.success + len(items) - failed, failure=action.failure + failed,
    )  # fmt: skip
    store.save(view.tx, done)
    return True


def _one(view: View, action: BulkAction, target: Target) -> tuple[str, str, str | None, str | None]:
    run = view.run(target.run_id, action.env_id)
    if run is None:
        return (action.id, target.run_id, None, "Run not found")
    if action.undo_of is not None and run.started_at is not None:
        return (action.id, run.id, None, "it has begun by now")
    return _cancel(view, action, run) if action.type == "CANCEL" else _replay(view, action, run)


def _cancel(view: View, action: BulkAction, run: Run) -> tuple[str, str, str | None, str | None]:
    refused = cancelling.cancel(view, run, reason=f"Bulk action {action.id}")
    return (action.id, run.id, None, refused.message if isinstance(refused, Refusal) else None)


def _replay(view: View, action: BulkAction, run: Run) -> tuple[str, str, str | None, str | None]:
    item = Replay(env_id=action.env_id, run_id=run.id, overrides={"options": {"bulk_action_id": action.id}})
    made = triggers.replay.decide(view, item)
    return (action.id, run.id, None, made.message) if isinstance(made, Refusal) else (action.id, run.id, made.run_id, None)
