"""Batches: how far they are, and what came of their runs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from outlast.model.run import Run, RunData
from outlast.server import wire
from outlast.server.api import own
from outlast.server.context import answer, of
from outlast.server.problem import Problem
from outlast.store import batches, runs, search
from outlast.store.batches import Batch

ItemRow = tuple[int, str | None, str, str | None]


async def _found(request: Request, *, public: bool = False) -> tuple[Batch, list[ItemRow], int]:
    context = of(request)
    caller = await context.caller(request, public=public)
    batch_id = request.path_params["batch"]
    caller.need("read", ("batch", batch_id), ("runs", None))
    batch = await context.engine.read(lambda tx: batches.read(tx, caller.env.id, batch_id))
    if batch is None:
        raise Problem(404, "Batch not found")
    return batch, await context.engine.read(lambda tx: batches.items(tx, batch.id)), caller.env.id


async def retrieve(request: Request) -> Response:
    """GET /api/v2/batches/{batch}, and v1"""
    batch, items, _ = await _found(request, public=True)
    run_ids = [run_id for _, run_id, _, _ in items if run_id is not None]
    ended = await of(request).engine.read(lambda tx: search.ended_of(tx, batch.id, run_ids))
    return answer(wire.batch(batch, items, ended))


async def results(request: Request) -> Response:
    """GET /api/v1/batches/{batch}/results: the finished ones, in order."""
    batch, items, env_id = await _found(request)
    engine = of(request).engine
    found = [await engine.read(lambda tx, i=run_id: search.one(tx, env_id, i)) for _, run_id, _, _ in items if run_id is not None]
    return answer({"id": batch.id, "items": [wire.result(*pair) for pair in found if pair is not None and pair[0].is_final]})


async def outcomes(request: Request) -> Response:
    """GET /api/outlast/v1/batches/{batch}/outcomes: of every item, in order."""
    _, items, _ = await _found(request)
    ids = {run_id for _, run_id, _, _ in items if run_id is not None}
    engine = of(request).engine
    made = {run.id: run for run in await engine.read(lambda tx: runs.read(tx, ids))}
    data = await engine.read(lambda tx: runs.data(tx, ids))
    return answer([_outcome(item, made, data) for item in items])


def _outcome(item: ItemRow, made: dict[str, Run], data: dict[str, RunData]) -> dict[str, object]:
    _, run_id, task, error = item
    if run_id is not None and run_id in made:
        return own.outcome(made[run_id], data[run_id])
    message = error or "the run was deleted: its retention is over"
    return {"done": True, "ok": False, "id": "", "taskIdentifier": task, "status": "FAILED", "error": {"message": message}}
