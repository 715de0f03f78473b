"""Workers: who is connected with which version, and asking one to finish and leave."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.server.context import Context, answer, of
from outlast.server.problem import Problem
from outlast.server.push import iso
from outlast.store import overview, sessions
from outlast.store.overview import Worker

GONE_MS = 3_600_000  # workers that left within the hour are still listed


async def listing(request: Request) -> Response:
    """GET /api/outlast/v1/workers"""
    context = of(request)
    caller = await context.caller(request)
    since = context.engine.clock.now() - GONE_MS
    rows = await context.engine.read(lambda tx: overview.workers(tx, caller.env.id, since=since))
    return answer({"data": [_wire(row) for row in rows]})


def _wire(w: Worker) -> dict[str, Any]:
    return {
        "id": w.id, "name": w.worker, "version": w.version, "state": state(w).lower(), "running": w.running,
        "executorsAtWork": w.executors, "leaseUntil": iso(w.lease_until), "connectedAt": iso(w.created_at),
    }  # fmt: skip


def state(w: Worker) -> str:
    return "CLOSED" if w.state != "open" else "DRAINING" if w.draining else "OPEN"


async def drain(request: Request) -> Response:
    """POST /api/outlast/v1/workers/{worker}/drain: it takes nothing new, its runs may end, then it leaves."""
    context = of(request)
    caller = await context.caller(request)
    session = request.path_params["worker"]
    await drained(context, caller.env.id, session)
    return answer({"id": session})


async def drained(context: Context, env_id: int, session: str) -> None:
    """The server the worker is connected to tells it within a heartbeat.

    Raises:
        Problem: 404.
    """
    known = "\x00" not in session and await context.engine.write(lambda tx: sessions.drain(tx, env_id, session))
    if not known:
        raise Problem(404, "no such worker is connected")
