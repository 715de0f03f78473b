"""Making runs: trigger, replay, batches."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import gates
from outlast.engine.catalog import Placement
from outlast.engine.debounce import debounced, quantised
from outlast.engine.operation import Lane, operation
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.limits import BATCH_SEAL_MS, IDEMPOTENCY_TTL_MS, MAX_DEPTH, REQUEST_TTL_MS
from outlast.model.refusal import Refusal
from outlast.model.requests import BatchCreated, CreateBatch, FailBatchItem, Replay, Trigger, Triggered
from outlast.model.run import RELEASES_KEY, Execution, Run, RunData, RunOptions, Status
from outlast.store import catalog
from outlast.store.batches import Batch

BATCH_KEYS = "batch/create"  # no task's id: their keys share a table with those of runs
SEAL_TIMER = "batch"
DEV_TTL_MS = 600_000  # a laptop's queue should not fire hours later; Trigger.dev's default in development


def _request_key(t: Trigger | CreateBatch | Replay, what: str) -> str | None:
    return f"{t.env_id}:{what}:{t.request_id}" if t.request_id else None


def _once_key(t: Trigger | CreateBatch) -> str | None:
    return f"{t.env_id}:once:{t.once}" if t.once else None


def needs(t: Trigger, wants: Rows) -> None:
    wants.requests.update(key for key in (_request_key(t, t.task), _once_key(t)) if key)
    if t.idempotency_hash:
        wants.keys.add((t.env_id, t.task, t.idempotency_hash))
    if t.parent_id:
        wants.runs.add(t.parent_id)
    if t.batch_id and t.batch_index is not None:
        wants.batches.add(t.batch_id)
        wants.batch_items.add((t.batch_id, t.batch_index))
    if t.debounce:
        wants.debounced.add((t.env_id, t.task, t.debounce.key))


def also(view: View, t: Trigger, wants: Rows) -> None:
    if gate := gates.of(view, t):
        wants.gates.add((t.env_id, gate[0]))


def lane(view: View, t: Trigger) -> list[Lane]:
    place = view.place(t.env_id, t.task, t.queue, t.locked_version)
    if place.queue_id is None or (t.delay_until is not None and t.delay_until > view.now):
        return []
    return [((place.queue_id, t.concurrency_key or "", place.route), t.env_id)]


@operation(needs=needs, lanes=lane, also=also)
def trigger(view: View, t: Trigger) -> Triggered | Refusal:
    """One run, however often the client sends it, and however many use its idempotency key."""
    if (answer := _answered(view, t)) is not None:
        return answer
    if t.debounce:
        if (joined := debounced(view, t, t.debounce)) is not None:
            _remember(view, t, joined.id)
            return Triggered(run_id=joined.id, is_cached=True)
        t = replace(t, delay_until=quantised(view.now + t.debounce.delay_ms))
    place = view.place(t.env_id, t.task, t.queue, t.locked_version)
    parent = view.run(t.parent_id, t.env_id) if t.parent_id else None
    if (refusal := _refusal(view, t, place, parent)) is not None:
        return refusal
    gate = gates.of(view, t)
    if gate is not None and (holder := gates.skipped(view, t.env_id, gate)) is not None:
        _remember(view, t, holder.id)
        return Triggered(run_id=holder.id, is_cached=True, is_skipped=True)
    if (used := _burn(view, t)) is not None:
        return used
    run = _new_run(view, t, place, parent)
    if gate is not None:
        run = gates.enter(view, run, gate)
    data = RunData(run_id=run.id, payload=t.payload, payload_type=t.payload_type, metadata=t.metadata, options=_options(view, t))
    born = lifecycle.born(run, now=view.now)
    run = view.bear(born, data)
    _remember(view, t, run.id)
    if t.debounce:
        view.flow.take_key((t.env_id, t.task, t.debounce.key), run.id, view.now)
    if t.idempotency_hash:
        key = (t.env_id, t.task, t.idempotency_hash)
        before = view.keys.get(key)
        expires_at = view.now + (t.idempotency_ttl_ms or IDEMPOTENCY_TTL_MS)
        view.keys[key] = (run.id, expires_at)
        view.writes.keys.append((*key, run.id, expires_at, before[0] if before else None))
    view.writes.tags.extend((t.env_id, tag, run.id) for tag in t.options.tags)
    return Triggered(run_id=run.id)


def _burn(view: View, t: Trigger | CreateBatch) -> Refusal | None:
    """A one-time token makes one run or batch: here it is about to. The unique key decides between two servers."""
    key = _once_key(t)
    if key is None:
        return None
    if key in view.requests:
        return Refusal("token_used", "Cannot trigger with a one-time use token as it has already been used.")
    view.requests[key] = ("used", None)
    view.writes.requests[key] = ("used", None, max(t.once_until, view.now + REQUEST_TTL_MS))
    return None


def _answered(view: View, t: Trigger) -> Triggered | None:
    """The run this request, batch item or idempotency key has made already."""
    request = _request_key(t, t.task)
    if request and (answer := view.requests.get(request)):
        reused = t.request_hash is not None and answer[1] is not None and answer[1] != t.request_hash
        return Triggered(run_id=answer[0], warning="request-id-reuse" if reused else None)
    if t.batch_id and t.batch_index is not None and (t.batch_id, t.batch_index) in view.batch_items:
        return Triggered(run_id=view.batch_items[(t.batch_id, t.batch_index)] or "", is_repeat=True)
    if not t.idempotency_hash:
        return None
    holder = view.keys.get((t.env_id, t.task, t.idempotency_hash))
    if holder is None or holder[1] <= view.now:
        return None
    existing = view.run(holder[0])
    if existing is None or existing.status in RELEASES_KEY:
        return None
    _remember(view, t, existing.id)
    return Triggered(run_id=existing.id, is_cached=True)


def _remember(view: View, t: Trigger, run_id: str) -> None:
    """A retry of the request, or of the batch it came in, finds the run."""
    if request := _request_key(t, t.task):
        view.requests[request] = (run_id, t.request_hash)
        view.writes.requests[request] = (run_id, t.request_hash, view.now + REQUEST_TTL_MS)
    if t.batch_id is None or t.batch_index is None:
        return
    view.batch_items[(t.batch_id, t.batch_index)] = run_id
    view.writes.batch_items.append((t.batch_id, t.batch_index, run_id, t.task, None))
    batch = view.batch(t.batch_id)
    if batch is not None:
        run = view.run(run_id)
        # a cached run counts its own batch, never ours; ours has it as done from the start
        _receive(view, batch, done=run is None or run.batch_id != batch.id)


def _receive(view: View, batch: Batch, *, done: bool) -> None:
    batch.received += 1
    if done:
        batch.remaining -= 1
    if batch.received == batch.expected and batch.sealed_at is None:
        batch.sealed_at = view.now
        timer = (batch.created_at + BATCH_SEAL_MS, SEAL_TIMER, batch.id)
        if timer in view.writes.timers:  # born in this flush
            view.writes.timers.discard(timer)
        else:
            view.writes.gone_timers.add(timer)
    view.touch_batch(batch)


def _closed(view: View, batch_id: str, index: int | None) -> Refusal | None:
    batch = view.batch(batch_id)
    if batch is None:
        return Refusal("not_found", "Batch not found")
    if batch.aborted_at is not None:
        return Refusal("batch_aborted", f"batch {batch_id} was aborted: its items did not all arrive in time")
    if batch.sealed_at is not None:
        return Refusal("batch_sealed", f"batch {batch_id} has all of its {batch.expected} items")
    if index is not None and not 0 <= index < batch.expected:
        return Refusal("bad_index", f"batch {batch_id} has {batch.expected} items: index {index} is none of them")
    return None


def _refusal(view: View, t: Trigger, place: Placement, parent: Run | None) -> Refusal | None:
    if t.batch_id is not None and (closed := _closed(view, t.batch_id, t.batch_index)) is not None:
        return closed
    if t.locked_version is not None and place.queue_id is None:
        known = catalog.version_exists(view.tx, t.env_id, t.locked_version)
        lacks = f"has no task {t.task!r}" if place.definition is None else f"has no queue {place.queue!r}"
        return Refusal("unknown_version", f"version {t.locked_version} {lacks if known else 'does not exist in this environment'}")
    if parent is not None and parent.depth + 1 > MAX_DEPTH:
        return Refusal(
            "max_depth", f"run {parent.id} is {parent.depth} runs deep: a task that triggers itself must end (limit {MAX_DEPTH})"
        )
    if parent is not None and parent.status is Status.CANCELED:
        return Refusal("run_cancelled", f"parent run {parent.id} was cancelled: its children are not started any more")
    limit = view.catalog.queue_size(view.tx, t.env_id, place.queue)
    if limit is not None and place.queue_id is not None and _queued(view, place.queue_id) >= limit:
        return Refusal("queue_full", f"queue {place.queue} holds {limit} runs, its maximum: wait, or raise max_queue_size")
    return None


def _queued(view: View, queue_id: int) -> int:
    from outlast.store import lanes

    stored = {lane.id: lane.queued for lane in view.lanes.values() if lane.queue_id == queue_id}
    in_view = sum(stored.values())
    others = [n for lane_id, n in lanes.queued_by_lane(view.tx, queue_id) if lane_id not in stored]
    return in_view + sum(others)


def _new_run(view: View, t: Trigger, place: Placement, parent: Run | None) -> Run:
    env = view.catalog.environment(view.tx, t.env_id)
    definition = place.definition
    ttl_ms = t.ttl_ms if t.ttl_ms is not None else definition.ttl_ms if definition else None
    if ttl_ms is None and env.is_dev and definition is not None:
        ttl_ms = DEV_TTL_MS
    if env.max_ttl_ms is not None:
        ttl_ms = min(ttl_ms or env.max_ttl_ms, env.max_ttl_ms)
    delayed = t.delay_until is not None and t.delay_until > view.now
    execution = Execution.PENDING_VERSION if place.queue_id is None else Execution.DELAYED if delayed else Execution.QUEUED
    run_id = view.new_id("run")
    return Run(
        id=run_id,
        env_id=t.env_id,
        task=t.task,
        queue=place.queue,
        queue_id=place.queue_id,
        concurrency_key=t.concurrency_key,
        pos=-t.priority_ms,
        route=place.route,
        status=Status(execution.value),
        execution=execution,
        version=t.locked_version,
        locked_version=t.locked_version,
        parent_id=parent.id if parent else None,
        parent_key=t.parent_key,
        root_id=(parent.root_id or parent.id) if parent else None,
        depth=parent.depth + 1 if parent else 0,
        batch_id=t.batch_id,
        due_at=t.delay_until if delayed else None,
        created_at=view.now,
        updated_at=view.now,
        ttl_ms=ttl_ms or None,
        max_attempts=t.max_attempts,
        max_duration=t.max_duration,
        is_test=t.is_test,
        detached=int(t.detached),
    )


def _options(view: View, t: Trigger) -> RunOptions:
    if not t.idempotency_hash:
        return t.options
    return replace(
        t.options,
        idempotency_key_hash=t.idempotency_hash,
        idempotency_key_expires_at=view.now + (t.idempotency_ttl_ms or IDEMPOTENCY_TTL_MS),
    )


def _needs_replay(r: Replay, wants: Rows) -> None:
    wants.runs.add(r.run_id)
    wants.data.add(r.run_id)
    if key := _request_key(r, "replay"):
        wants.requests.add(key)


@operation(needs=_needs_replay)
def replay(view: View, r: Replay) -> Triggered | Refusal:
    """A new run with the same payload on the current version; keys, delay, ttl, attempts and priority are not kept."""
    key = _request_key(r, "replay")
    if key and (answer := view.requests.get(key)):
        return Triggered(run_id=answer[0])
    old, data = view.run(r.run_id, r.env_id), view.data.get(r.run_id)
    if old is None or data is None:
        return Refusal("not_found", "Run not found")
    kept = RunOptions(
        tags=data.options.tags,
        machine=data.options.machine,
        region=data.options.region,
        metadata_type=data.options.metadata_type,
        replay_of=old.id,
    )
    again = Trigger(
        env_id=r.env_id,
        task=old.task,
        payload=data.payload,
        payload_type=data.payload_type,
        metadata=data.metadata,
        options=kept,
        queue=old.queue,
        concurrency_key=old.concurrency_key,
        is_test=old.is_test,
    )
    overrides = dict(r.overrides)
    options = replace(kept, **overrides.pop("options", {}))
    again = replace(again, **overrides, options=options)
    missing = {key: env_id for key, env_id in lane(view, again) if key not in view.lane_ids}
    if missing:
        raise NeedsLock(Rows(lanes=missing))
    made = trigger.decide(view, again)
    if key and isinstance(made, Triggered):
        view.writes.requests[key] = (made.run_id, None, view.now + REQUEST_TTL_MS)
        view.requests[key] = (made.run_id, None)
    return made


def _needs_batch(b: CreateBatch, wants: Rows) -> None:
    wants.requests.update(key for key in (_request_key(b, "batch"), _once_key(b)) if key)
    if b.idempotency_hash:
        wants.keys.add((b.env_id, BATCH_KEYS, b.idempotency_hash))


@operation(needs=_needs_batch)
def create_batch(view: View, b: CreateBatch) -> BatchCreated | Refusal:
    """One batch, however often the client asks; its items come later. One with a key that was used before is given back."""
    key = _request_key(b, "batch")
    if key and (answer := view.requests.get(key)):
        return BatchCreated(batch_id=answer[0])
    own_key = (b.env_id, BATCH_KEYS, b.idempotency_hash or "")
    holder = view.keys.get(own_key) if b.idempotency_hash else None
    if holder is not None and holder[1] > view.now:
        return BatchCreated(batch_id=holder[0], is_cached=True)
    if (used := _burn(view, b)) is not None:
        return used
    batch = Batch(
        id=view.new_id("batch"),
        env_id=b.env_id,
        parent_id=b.parent_id,
        parent_key=b.parent_key,
        idempotency_key=b.idempotency_key,
        expected=b.count,
        remaining=b.count,
        created_at=view.now,
        updated_at=view.now,
    )
    view.batches[batch.id] = batch
    view.writes.born_batches.add(batch.id)
    view.writes.timers.add((view.now + BATCH_SEAL_MS, SEAL_TIMER, batch.id))
    if b.idempotency_hash:
        expires_at = view.now + (b.idempotency_ttl_ms or IDEMPOTENCY_TTL_MS)
        view.keys[own_key] = (batch.id, expires_at)
        view.writes.keys.append((*own_key, batch.id, expires_at, holder[0] if holder else None))
    if key:
        view.requests[key] = (batch.id, None)
        view.writes.requests[key] = (batch.id, None, view.now + REQUEST_TTL_MS)
    return BatchCreated(batch_id=batch.id)


def _needs_item(f: FailBatchItem, wants: Rows) -> None:
    wants.batches.add(f.batch_id)
    wants.batch_items.add((f.batch_id, f.index))


@operation(needs=_needs_item)
def fail_batch_item(view: View, f: FailBatchItem) -> bool | Refusal:
    """An item that was refused: the batch counts it as failed and goes on. False: it was known already."""
    if (f.batch_id, f.index) in view.batch_items:
        return False
    if (closed := _closed(view, f.batch_id, f.index)) is not None:
        return closed
    batch = view.batch(f.batch_id)
    assert batch is not None
    view.batch_items[(f.batch_id, f.index)] = None
    view.writes.batch_items.append((f.batch_id, f.index, None, f.task, f.error))
    batch.failed += 1
    _receive(view, batch, done=True)
    return True
