"""Outlast's own routes, beside Trigger.dev's: waiting for a result, logs, history; and who am I."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.model import payload as packets
from outlast.model.run import Run, RunData, Status
from outlast.server import wire
from outlast.server.api.runs import found
from outlast.server.context import answer, of
from outlast.server.query import number
from outlast.store import events, search

MAX_WAIT_SECONDS = 60
MAX_LINES = 1_000


async def wait_for_result(request: Request) -> Response:
    """GET /api/outlast/v1/runs/{run}/result?wait=SECONDS: held until the run is over, or the time is."""
    wait = number(request, "wait", 0, MAX_WAIT_SECONDS, least=0)
    engine = of(request).engine
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    run_id = request.path_params["run"]
    # watched before the first look, or an end in between would be missed
    watched = engine.signals.watch(run_id)
    try:
        run, data, caller = await found(request, "read")
        while not run.is_final and (left := deadline - loop.time()) > 0:
            await asyncio.wait([watched], timeout=left)
            engine.signals.unwatch(run_id, watched)
            watched = engine.signals.watch(run_id)
            pair = await engine.read(lambda tx: search.one(tx, caller.env.id, run_id))
            if pair is None:
                break
            run, data = pair
    finally:
        engine.signals.unwatch(run_id, watched)
    return answer(outcome(run, data))


def outcome(run: Run, data: RunData) -> dict[str, Any]:
    base: dict[str, Any] = {"done": run.is_final, "id": run.id, "taskIdentifier": run.task, "status": run.status.value}
    if not run.is_final:
        return base
    base["ok"] = run.status is Status.COMPLETED
    if base["ok"]:
        base["outputType"] = data.output_type or packets.JSON
        if data.output is not None:
            base["output"] = data.output
    elif data.error is not None:
        base["error"] = wire.error_object(data.error)
    return base


async def logs(request: Request) -> Response:
    """GET /api/outlast/v1/runs/{run}/logs?after=N&limit=N"""
    run, _, _ = await found(request)
    after, limit = number(request, "after", 0, 2**53, least=0), number(request, "limit", 500, MAX_LINES, least=0)
    lines = await of(request).engine.read(lambda tx: events.logs(tx, run.id, after=after, limit=limit))
    return answer({"data": lines, "next": lines[-1]["n"] if len(lines) == limit else None})


async def history(request: Request) -> Response:
    """GET /api/outlast/v1/runs/{run}/history: every change of the run, oldest first."""
    run, _, _ = await found(request)
    rows = await of(request).engine.read(lambda tx: events.history(tx, run.id))
    return answer({"data": [{"n": n, "kind": kind, "at": at, "data": data} for n, kind, at, data in rows]})


async def whoami(request: Request) -> Response:
    """GET /api/outlast/v1/whoami"""
    caller = await of(request).caller(request)
    env = {"id": str(caller.env.id), "slug": caller.env.slug, "type": caller.env.type}
    return answer({"environment": env, "key": {"id": caller.key_id, "name": caller.key_name}})
