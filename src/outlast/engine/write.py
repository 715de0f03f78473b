"""The third phase of a flush: each row once, batched by kind of row. Keys before runs, lanes last."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import flow
from outlast.engine.view import View
from outlast.engine.writes import Writes
from outlast.faults import point
from outlast.model.change import Finish
from outlast.model.run import RunData
from outlast.store import batches, events, idempotency, journal, lanes, runs, sessions, timers, waitpoints


def write(view: View) -> None:
    """Write what was decided, and begin a new page for what the claim decides."""
    w, tx = view.writes, view.tx
    idempotency.remember(tx, [(key, *value) for key, value in sorted(w.requests.items())])
    point("write.requests")
    idempotency.reserve(tx, sorted(w.keys, key=lambda key: key[:3]))
    point("write.keys")
    flow.write(tx, view.flow, view.now)
    _write_runs(view, w)
    point("write.runs")
    if w.born_batches:
        batches.insert(tx, [view.batches[b] for b in sorted(w.born_batches)])
    if w.batches - w.born_batches:
        batches.save(tx, [view.batches[b] for b in w.batches - w.born_batches])
    batches.add_items(tx, w.batch_items)
    batches.move_items(tx, w.moved_items)
    point("write.batches")
    journal.insert(tx, list(w.born_entries.values()))
    journal.save(tx, w.journal)
    point("write.journal")
    waitpoints.insert(tx, [view.tokens[id_] for id_ in w.born_tokens])
    waitpoints.save(tx, [view.tokens[id_] for id_ in w.tokens - w.born_tokens])
    journal.add_waiters(tx, w.waiters)
    journal.remove_waiters(tx, w.gone_waiters)
    journal.remove_edges(tx, w.gone_edges)
    view.streams.write(tx)
    point("write.waitpoints")
    timers.remove(tx, sorted(w.gone_timers))
    timers.add(tx, sorted(w.timers))
    timers.forget_waits(tx, w.ended_journals)
    point("write.timers")
    timers.remove_work(tx, w.gone_work)
    timers.add_work(tx, w.work)
    point("write.work")
    if w.sessions:
        sessions.save(tx, [view.sessions[s] for s in w.sessions])
    point("write.sessions")
    events.append_logs(tx, w.logs)
    _write_lanes(view, w)
    point("write.lanes")
    view.writes = Writes()


def _write_runs(view: View, w: Writes) -> None:
    tx = view.tx
    if w.born:
        born = sorted(w.born)
        runs.insert(tx, [view.runs[run_id] for run_id in born])
        for run_id, done in w.results.items():
            if run_id in w.born:  # made and cancelled in one flush
                w.born[run_id] = _with_result(w, run_id, done)
        runs.insert_data(tx, [w.born[run_id] for run_id in born])
    changed = sorted(w.changed - w.born.keys())
    runs.update(tx, [view.runs[run_id] for run_id in changed])
    runs.save_results(
        tx, [(d.output, d.output_type, d.error, d.result_hash, run_id) for run_id, d in w.results.items() if run_id not in w.born]
    )
    if w.options:
        runs.set_options(tx, [(options, run_id) for run_id, options in w.options.items()])
    runs.set_metadata(tx, [(text, run_id) for run_id, text in sorted(w.metadata.items())])
    runs.add_tags(tx, w.tags)
    runs.add_failures(tx, w.failures)
    runs.park(tx, list(w.parked.values()))
    runs.unpark(tx, w.unparked)


def _with_result(w: Writes, run_id: str, done: Finish) -> RunData:
    return replace(w.born[run_id], output=done.output, output_type=done.output_type, error=done.error, result_hash=done.result_hash)


def _write_lanes(view: View, w: Writes) -> None:
    tx = view.tx
    lanes.remove_entries(tx, w.gone_entries)
    lanes.add_entries(tx, sorted(w.entries.values()))
    lanes.remove_slots(tx, w.gone_slots)
    lanes.add_slots(tx, w.slots)
    if w.lanes:
        lanes.save(tx, [view.lanes[lane_id] for lane_id in w.lanes], view.now)
    lanes.save_open(tx, w.bases)
