"""Every limit in one answer: those of the code, and those of the environment."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from outlast.model.limits import all_limits
from outlast.server.context import answer, of
from outlast.store import catalog


async def listing(request: Request) -> Response:
    """GET /api/outlast/v1/limits"""
    context = of(request)
    caller = await context.caller(request)
    env = await context.engine.read(lambda tx: catalog.environment(tx, caller.env.id))
    here = {
        "concurrency": env.limit,
        "burst": env.burst,
        "room": env.room,
        "maxQueueSize": env.max_queue_size,
        "maxTtlMs": env.max_ttl_ms,
        "paused": env.paused,
    }
    return answer({"environment": here, "limits": all_limits()})
