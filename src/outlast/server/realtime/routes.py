"""The live routes. Those of `TABLE` take public tokens; the scopes they need are checked by their handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from outlast.server.realtime import events, reading, runs, writing

Table = list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]

TABLE: Table = [
    ("GET", "/api/outlast/v1/runs/{run}/events", events.of_run),
    ("GET", "/api/outlast/v1/runs/{run}/streams/{key}", reading.poll),
    ("GET", "/realtime/v1/runs/{run}", runs.one),
    ("GET", "/realtime/v1/runs", runs.tagged),
    ("GET", "/realtime/v1/batches/{batch}", runs.batch),
    ("POST", "/realtime/v1/streams/{run}/input/{key}", writing.send),
    ("GET", "/realtime/v1/streams/{run}/input/{key}", reading.read_input),
    ("GET", "/realtime/v1/streams/{run}/{key}", reading.read),
]
WRITERS: Table = [  # for tasks, and whoever has a key
    ("HEAD", "/realtime/v1/streams/{run}/{target}/{key}", writing.last_chunk),
    ("PUT", "/realtime/v1/streams/{run}/{target}/{key}", writing.declare),
    ("POST", "/realtime/v1/streams/{run}/{target}/{key}", writing.write),
    ("POST", "/realtime/v1/streams/{run}/{target}/{key}/append", writing.append),
]
