"""Every page and act by its address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from outlast.server.dashboard import run, runs
from outlast.server.dashboard.visit import Visit

Table = list[tuple[str, Callable[[Visit], Awaitable[Response]]]]

PAGES: Table = [
    ("/", runs.show),
    ("/runs", runs.show),
    ("/runs/{run}", run.show),
    ("/runs/{run}/trace.json", run.trace_json),
    ("/runs/{run}/{part}.json", run.download),
]
ACTS: Table = [
    ("/runs/{run}/cancel", run.cancel),
    ("/runs/{run}/replay", run.replay),
    ("/runs/{run}/reschedule", run.reschedule),
]
