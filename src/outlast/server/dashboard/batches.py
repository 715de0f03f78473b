"""Batches: how far each is, and the runs of one."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from outlast.engine import control
from outlast.model.requests import Cancel
from outlast.model.run import FINAL, Status
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import batches, overview, search
from outlast.store.batches import Batch
from outlast.store.database import Connection

PAGE = 50
SHOWN = 50
STEP = 200  # runs cancelled between two looks


async def show(visit: Visit) -> Response:
    """GET /batches"""
    after = visit.query.get("after")
    after = after if after and after.startswith("batch_") and after[6:].isalnum() else None
    found = await visit.read(lambda tx: overview.batches(tx, visit.env.id, after=after, limit=PAGE + 1))
    older = f"?after={found[PAGE - 1].id}" if len(found) > PAGE else None
    return visit.page("batches/list.html", topics="batches", rows=found[:PAGE], older=older, newer=after is not None)


async def _found(visit: Visit) -> Batch:
    batch_id = visit.request.path_params["batch"]
    batch = await visit.read(lambda tx: batches.read(tx, visit.env.id, batch_id)) if "\x00" not in batch_id else None
    if batch is None:
        raise Problem(404, "no such batch")
    return batch


async def show_one(visit: Visit) -> Response:
    """GET /batches/{batch}"""
    batch = await _found(visit)

    def query(tx: Connection) -> dict[str, Any]:
        refused = [(index, task, error) for index, run_id, task, error in batches.items(tx, batch.id) if run_id is None][:SHOWN]
        counts = overview.batch_counts(tx, batch.id)
        rows = search.rows(tx, search.Filter(env_id=visit.env.id, batch=batch.id), SHOWN)
        return {"counts": counts, "rows": rows, "refused": refused, "open": sum(n for s, n in counts.items() if Status(s) not in FINAL)}

    return visit.page("batches/batch.html", topics="batches", batch=batch, **await visit.read(query))


async def cancel(visit: Visit) -> Response:
    """POST /batches/{batch}/cancel: the runs of it that are not over"""
    batch = await _found(visit)
    items = await visit.read(lambda tx: batches.items(tx, batch.id))
    ids = [run_id for _, run_id, _, _ in items if run_id is not None]
    for i in range(0, len(ids), STEP):
        for future in [
            visit.site.engine.submit(control.cancel, Cancel(env_id=visit.env.id, run_id=run_id), bulk=True) for run_id in ids[i : i + STEP]
        ]:
            await future
    return visit.done("Canceled what was left of it")
