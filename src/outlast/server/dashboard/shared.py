"""What is drawn once for everybody who looks at the same: the live blocks that open pages fetch at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from outlast.server.dashboard import preferences
from outlast.server.dashboard.visit import Visit

KEPT_SECONDS = 1.0
MAX_KEPT = 200


class Drawn:
    """Live blocks by who may see what, and address."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], tuple[float, asyncio.Task[Response]]] = {}

    async def get(self, visit: Visit, draw: Callable[[Visit], Awaitable[Response]]) -> Response:
        """One that was begun after the last change anybody heard of; else it is drawn now, for all who come meanwhile."""
        key, now = _key(visit), asyncio.get_running_loop().time()
        found = self._kept.get(key)
        if found is None or found[0] <= max(visit.site.changes.told_at(visit.env.id), now - KEPT_SECONDS):
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            found = self._kept[key] = (now, asyncio.ensure_future(_timed(visit, draw, now)))
        response = await asyncio.shield(found[1])
        known = visit.request.headers.get("if-none-match")
        return _unchanged(response) if known and known == response.headers.get("etag") else response


async def _timed(visit: Visit, draw: Callable[[Visit], Awaitable[Response]], began: float) -> Response:
    """How long it took, for those who look at the browser's own tools; who shares a block sees the same number."""
    response = await draw(visit)
    took = asyncio.get_running_loop().time() - began
    visit.site.changes.drew(took)
    response.headers["server-timing"] = f"draw;dur={took * 1_000:.3f}"
    return response


def _key(visit: Visit) -> tuple[object, ...]:
    request, session = visit.request, visit.access.session
    kind = None if session is None else session.key_id is None
    return (
        visit.env.id,
        visit.access.role,
        kind,
        request.headers.get("host"),
        str(request.url),
        preferences.of(request),
        "gzip" in request.headers.get("accept-encoding", ""),
    )


def _unchanged(response: Response) -> Response:
    kept = {name: value for name, value in response.headers.items() if name not in ("content-length", "content-encoding", "content-type")}
    return Response(status_code=304, headers=kept)


def is_block(request: Request) -> bool:
    return request.method == "GET" and "x-fragment" in request.headers
