"""Bulk actions: cancel or replay all runs that match, with a preview, progress, abort and undo."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.datastructures import QueryParams
from starlette.responses import Response

from outlast.engine import bulk as operations
from outlast.model.bulk import AbortBulk, BulkAction, StartBulk
from outlast.server.api.bulk import MAX_COUNT
from outlast.server.dashboard import runs
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import bulk as store
from outlast.store import search

PAGE = 50
TYPES: Any = {"cancel": "CANCEL", "replay": "REPLAY"}


async def show(visit: Visit) -> Response:
    """GET /bulk"""
    rows = await visit.read(lambda tx: store.page(tx, visit.env.id, after=None, before=None, limit=PAGE))
    return visit.page("bulk/list.html", topics="bulk,runs", rows=rows)


async def prepare(visit: Visit) -> Response:
    """GET /bulk/new with the filters of a list of runs: how many match, and what to do with them"""
    asked = runs.asked_for(visit)
    f = await visit.read(lambda tx: runs.filter_of(tx, visit, asked))
    total = await visit.read(lambda tx: search.count(tx, f, MAX_COUNT))
    said = {name: value for name, value in asked.items() if value}
    return visit.page("bulk/new.html", topics="runs", total=total, said=said, query=visit.request.url.query)


async def start(visit: Visit) -> Response:
    """POST /bulk with `action`, `name` and the filters as they stood in the address"""
    action, name = visit.text("action", 10, required=True), visit.text("name", 255)
    if action not in TYPES:
        raise Problem(400, "action is cancel or replay", param="action")
    asked = runs.asked_for(visit, QueryParams(visit.text("query", 8_000)))
    f = await visit.read(lambda tx: runs.filter_of(tx, visit, asked))
    f = replace(f, created_to=min(f.created_to or visit.now, visit.now))  # what is made later is never among them
    total = await visit.read(lambda tx: search.count(tx, f, MAX_COUNT))
    item = StartBulk(env_id=visit.env.id, type=TYPES[action], name=name or None, total=total, filter=msgspec.json.encode(f).decode())
    await visit.call(operations.start_bulk, item)
    return visit.done("Started", href="/bulk", topics=("bulk",))


async def _found(visit: Visit) -> BulkAction:
    id_ = visit.request.path_params["bulk"]
    action = await visit.read(lambda tx: store.one(tx, visit.env.id, id_)) if "\x00" not in id_ else None
    if action is None:
        raise Problem(404, "no such bulk action")
    return action


async def abort(visit: Visit) -> Response:
    """POST /bulk/{bulk}/abort"""
    action = await _found(visit)
    await visit.call(operations.abort_bulk, AbortBulk(env_id=visit.env.id, bulk_id=action.id))
    return visit.done("Aborted: what is done stays done", topics=("bulk",))


async def undo(visit: Visit) -> Response:
    """POST /bulk/{bulk}/undo: take back what has not run"""
    action = await _found(visit)
    if action.status == "PENDING":
        raise Problem(400, "it is still under way: abort it first")
    kind: Any = "CANCEL" if action.type == "REPLAY" else "REPLAY"
    item = StartBulk(env_id=visit.env.id, type=kind, name=f"Undo of {action.name or action.id}"[:255], total=0, undo_of=action.id)
    await visit.call(operations.start_bulk, item)
    return visit.done("Taking back what has not run", topics=("bulk",))
