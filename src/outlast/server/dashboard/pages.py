"""Every page and act by its address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from outlast.server.dashboard import runs
from outlast.server.dashboard.visit import Visit

Table = list[tuple[str, Callable[[Visit], Awaitable[Response]]]]

PAGES: Table = [
    ("/", runs.show),
    ("/runs", runs.show),
]
ACTS: Table = []
