"""The live routes: changes of runs, and streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from outlast.server.realtime import events, runs

TABLE: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
    ("GET", "/api/outlast/v1/runs/{run}/events", events.of_run),
    ("GET", "/realtime/v1/runs/{run}", runs.one),
    ("GET", "/realtime/v1/runs", runs.tagged),
    ("GET", "/realtime/v1/batches/{batch}", runs.batch),
]
