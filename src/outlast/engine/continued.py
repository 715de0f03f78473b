"""A run that goes on as a fresh one: whoever waits for it, and all that finds it, is given the new one."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import triggers
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.journal import Entry
from outlast.model.refusal import Refusal
from outlast.model.requests import Trigger
from outlast.model.result import Result
from outlast.model.run import Run, RunData
from outlast.store import journal


def record(view: View, run: Run, entry: Entry, asked: Trigger) -> Entry | Refusal:
    """The new run is made and the old one completed in one transaction; `asked` brings the payload."""
    data = view.data[run.id]
    key = (run.env_id, run.task, data.options.idempotency_key_hash or "")
    if data.options.idempotency_key_hash and key not in view.loaded.keys:
        raise NeedsLock(Rows(keys={key}))
    item = _item(view, run, data, asked)
    missing = {lane: env_id for lane, env_id in triggers.lane(view, item) if lane not in view.lane_ids}
    if missing:
        raise NeedsLock(Rows(lanes=missing))
    made = triggers.trigger.decide(view, item)
    if isinstance(made, Refusal):
        return made
    view.runs[made.run_id] = replace(
        view.runs[made.run_id], parent_id=run.parent_id, parent_key=run.parent_key, root_id=run.root_id, depth=run.depth,
        batch_id=run.batch_id, pending_waits=run.pending_waits, detached=run.detached,
    )  # fmt: skip
    _move(view, run, made.run_id)
    if (holder := view.keys.get(key)) is not None and holder[0] == run.id:
        view.keys[key] = (made.run_id, holder[1])
        view.writes.keys.append((*key, made.run_id, holder[1], run.id))
    entry = view.record(run, replace(entry, status="ok", ref=made.run_id))
    # nobody waits for the old one any more
    view.runs[run.id] = replace(view.runs[run.id], parent_key=None, batch_id=None, pending_waits=0)
    result = Result(epoch=run.epoch, attempt=run.attempt, outcome="ok", output=f'{{"continued_as":"{made.run_id}"}}')
    done = view.apply(lifecycle.complete(view.runs[run.id], result, now=view.now))
    assert isinstance(done, Run), done
    return entry


def _item(view: View, run: Run, data: RunData, asked: Trigger) -> Trigger:
    is_dev = view.catalog.environment(view.tx, run.env_id).is_dev
    return replace(
        asked,
        task=run.task,
        metadata=data.metadata,
        options=replace(data.options, trigger_function="continue_as"),
        queue=None if run.queue == f"task/{run.task}" else run.queue,
        concurrency_key=run.concurrency_key,
        max_attempts=run.max_attempts,
        max_duration=run.max_duration,
        locked_version=None if is_dev else run.version,
        parent_id=None,
        is_test=run.is_test,
    )


def _move(view: View, run: Run, new_id: str) -> None:
    if run.pending_waits:
        view.writes.waiters.extend((new_id, waiter, key) for waiter, key in journal.waiters(view.tx, [run.id])())
        view.writes.gone_waiters.append(run.id)
    if run.batch_id is not None:
        view.writes.moved_items.append((new_id, run.batch_id, run.id))
