"""Debounce: many triggers with one key become one run, some time after the last of them."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.requests import DebounceBy, Trigger
from outlast.model.run import Execution, Run

BUCKET_MS = 1_000


def quantised(at: int) -> int:
    """Rounded up: a run never begins before its delay is over."""
    return -(-at // BUCKET_MS) * BUCKET_MS


def debounced(view: View, t: Trigger, by: DebounceBy) -> Run | None:
    """The run that this trigger joins and pushes; None when it makes one of its own.

    A run that would be pushed beyond `max_delay_ms` after its first trigger is left to execute, and another takes the key.
    """
    held = view.flow.key((t.env_id, t.task, by.key))
    run = view.run(held[0]) if held is not None else None
    if held is None or run is None or run.due_at is None or run.execution not in (Execution.DELAYED, Execution.PENDING_VERSION):
        return None
    due_at = quantised(view.now + by.delay_ms)
    if due_at > held[1] + by.max_delay_ms:
        return None
    if by.mode == "trailing":
        run = _replaced(view, run, t)
    if run.due_at is not None and due_at > run.due_at:
        pushed = view.apply(lifecycle.push(run, due_at=due_at, now=view.now))
        assert isinstance(pushed, Run)
        run = pushed
    return run


def _replaced(view: View, run: Run, t: Trigger) -> Run:
    """What the run does is what the last trigger asked for; who waits for it, and where it is queued, stays."""
    data = view.writes.born.get(run.id) or view.data.get(run.id)
    if data is None:
        raise NeedsLock(Rows(data={run.id}))
    options = replace(
        data.options, tags=t.options.tags, machine=t.options.machine, metadata_type=t.options.metadata_type,
        max_duration_off=t.options.max_duration_off,
    )  # fmt: skip
    new = replace(data, payload=t.payload, payload_type=t.payload_type, metadata=t.metadata, options=options)
    if run.id in view.writes.born:
        view.writes.born[run.id] = new
    else:
        view.flow.data[run.id] = new
        view.flow.gone_tags |= {(run.env_id, tag, run.id) for tag in data.options.tags}
        view.flow.gone_tags -= {(run.env_id, tag, run.id) for tag in options.tags}
    view.data[run.id] = new
    view.writes.tags[:] = [tag for tag in view.writes.tags if tag[2] != run.id]
    view.writes.tags.extend((run.env_id, tag, run.id) for tag in options.tags)
    run = replace(run, max_attempts=t.max_attempts, max_duration=t.max_duration)
    view.runs[run.id] = run  # no change that anybody must hear of by itself
    view.writes.changed.add(run.id)
    return run
