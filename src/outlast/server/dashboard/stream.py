"""GET /ui/events: which topics changed, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response, StreamingResponse

from outlast.server.dashboard.access import check_origin
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem

MAX_TOPICS = 50
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff"}


async def events(visit: Visit) -> Response:
    check_origin(visit.request)
    topics = [t for t in visit.query.get("topics", "").split(",") if t][:MAX_TOPICS]
    if visit.site.changes.is_full:
        raise Problem(429, "too many open pages", headers={"retry-after": "10"})
    return StreamingResponse(_said(visit, topics), media_type="text/event-stream", headers=HEADERS)


async def _said(visit: Visit, topics: list[str]) -> AsyncIterator[str]:
    changes = visit.site.changes
    async for changed in changes.listen(visit.env.id, topics):
        if changed == []:
            yield f"retry: 1000\nevent: hello\ndata: {visit.now}\n\n"
            continue
        if changed is None:
            if await visit.site.gate.access(visit.request) is None:
                return  # signed out, or its key was revoked
            yield ": still here\n\n"
            continue
        yield f"event: changed\ndata: {msgspec.json.encode(changed).decode()}\n\n"
