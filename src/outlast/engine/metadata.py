"""Metadata of runs: many operations from many writers, folded into one object and one write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from outlast.engine.operation import operation
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import View
from outlast.model import metadata
from outlast.model import payload as packets
from outlast.model.change import Change
from outlast.model.limits import MAX_METADATA_BYTES, REQUEST_TTL_MS
from outlast.model.messages import LogLine
from outlast.model.metadata import AnyOp
from outlast.model.refusal import Refusal
from outlast.model.requests import ChangeMetadata
from outlast.model.run import Run, RunData

_encode = msgspec.json.encode


def _needs_run(c: ChangeMetadata, wants: Rows) -> None:
    wants.light.add(c.run_id)
    wants.data.add(c.run_id)
    if c.request_id is not None:
        wants.requests.add(_request(c))


def _request(c: ChangeMetadata) -> str:
    return f"{c.env_id}:metadata:{c.request_id}"


@operation(needs=_needs_run)
def change_metadata(view: View, c: ChangeMetadata) -> dict[str, Any] | Refusal:
    """The object after it. A request that is sent twice is applied once; a run that is over keeps what it has."""
    run = view.run(c.run_id, c.env_id)
    if run is None:
        return Refusal("not_found", "Run not found")
    if c.request_id is not None and _request(c) in view.requests:
        return read(view, run)
    if run.is_final:
        return Refusal("run_final", "Cannot update metadata for a completed run")
    ops: list[AnyOp] = [*([metadata.Update(c.replaced)] if c.replaced is not None else []), *c.ops]
    family = [(run, ops), (relative(view, run, "parent"), c.parent_ops), (relative(view, run, "root"), c.root_ops)]
    for whom, asked in family:
        if whom is not None and asked and isinstance(refused := change(view, whom, asked), Refusal):
            return refused
    if c.request_id is not None:
        view.requests[_request(c)] = ("metadata", None)
        view.writes.requests[_request(c)] = ("metadata", None, view.now + REQUEST_TTL_MS)
    return read(view, run)


def relative(view: View, run: Run, whose: str) -> Run | None:
    """The run that is meant, with its data; None when there is none, or it is of another environment. One without a parent is its own."""
    ids = {"self": run.id, "parent": run.parent_id or run.id, "root": run.root_id or run.id}
    id_ = ids.get(whose, whose)
    if id_ not in view.loaded.data and id_ not in view.data:
        raise NeedsLock(Rows(light={id_}, data={id_}))
    return view.run(id_, run.env_id)


def read(view: View, run: Run) -> dict[str, Any]:
    data = view.data[run.id]
    found = packets.to_json(data.metadata, data.options.metadata_type)
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def change(view: View, run: Run, ops: Sequence[AnyOp]) -> Refusal | None:
    """Fold them in. What cannot be applied is said in the run's log."""
    if run.is_final:
        return None
    changed, reasons = metadata.apply(read(view, run), ops)
    text = _encode(changed)
    if len(text) > MAX_METADATA_BYTES:
        return Refusal("too_large", f"the metadata of run {run.id} would be larger than {MAX_METADATA_BYTES} bytes: keep less in it")
    for reason in reasons:
        line = LogLine(run.id, run.attempt, view.now, "warn", "system", f"metadata: {reason}; the other operations were applied")
        view.writes.logs.append(line)
    _write(view, run, text.decode())
    return None


def _write(view: View, run: Run, text: str) -> None:
    before = view.data[run.id]
    after = replace(before, metadata=text, options=_as_json(before))
    if after == before:
        return
    view.data[run.id] = after
    if run.id in view.writes.born:
        view.writes.born[run.id] = after
    else:
        view.writes.metadata[run.id] = text
        if after.options != before.options:
            view.writes.options[run.id] = after.options
    view.apply(Change(replace(view.runs[run.id], updated_at=view.now), "metadata"))


def _as_json(data: RunData) -> Any:
    """Operations make plain JSON of what was superjson."""
    return data.options if data.options.metadata_type == packets.JSON else replace(data.options, metadata_type=packets.JSON)
