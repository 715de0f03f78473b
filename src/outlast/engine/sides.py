"""Writes of executing runs beside their journals, which only counts them: metadata and streams, at most once over all executions."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import metadata, streams
from outlast.engine.durable import fence
from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model.journal import Entry, count_key, entry_id
from outlast.model.refusal import Refusal
from outlast.model.requests import SideWrite
from outlast.model.run import Run
from outlast.model.streams import Part


def _needs_counts(s: SideWrite, wants: Rows) -> None:
    wants.light.add(s.run_id)
    wants.entries.update(entry_id(s.run_id, s.journal, count_key(item.scope, s.target)) for item in s.items)
    if s.whose == "self":
        wants.data.add(s.run_id)


@operation(needs=_needs_counts)
def write_beside(view: View, s: SideWrite) -> Refusal | None:
    """Those that are not there yet; a repeat, or what an earlier execution has written, changes nothing."""
    run = view.run(s.run_id)
    if run is None:
        return Refusal("not_found", f"run {s.run_id} does not exist")
    if refusal := fence(run, s.epoch, s.journal):
        return refusal
    whom = metadata.relative(view, run, s.whose)
    new, counts = _new(view, run, s)
    if not new:
        return None
    if whom is not None and not whom.is_final and isinstance(refused := _write(view, whom, s, new), Refusal):
        return refused
    for key, count in counts.items():
        _count(view, view.runs[run.id], key, s.target, count)
    return None


def _write(view: View, whom: Run, s: SideWrite, new: list[int]) -> object:
    if s.stream is None:
        return metadata.change(view, whom, [s.ops[i] for i in new])
    return streams.add(view, whom, s.stream, [Part(body=s.items[i].value) for i in new])


def _new(view: View, run: Run, s: SideWrite) -> tuple[list[int], dict[str, int]]:
    """Which items are new, and how many each scope has written after them."""
    counts: dict[str, int] = {}
    new: list[int] = []
    for at, item in enumerate(s.items):
        key = count_key(item.scope, s.target)
        if key not in counts:
            entry = view.entry(entry_id(run.id, run.journal, key))
            counts[key] = int(entry.value or 0) if entry is not None else 0
        if item.index >= counts[key]:
            new.append(at)
            counts[key] = item.index + 1
    return new, counts


def _count(view: View, run: Run, key: str, target: str, count: int) -> None:
    id_ = entry_id(run.id, run.journal, key)
    known = view.entry(id_)
    if known is not None:
        return view.rewrite(run, replace(known, value=str(count)))
    # without a place in the order of delivery: the code is never given it
    entry = Entry(key, "count", target, "", "ok", value=str(count), began_at=view.now)
    view.entries[id_] = entry
    view.writes.born_entries[id_] = (run.id, run.journal, run.epoch, run.version or "", entry)
    return None
