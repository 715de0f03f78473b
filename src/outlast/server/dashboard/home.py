"""The first page: how things stand."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from outlast.server import errors
from outlast.server.dashboard import charts, runs
from outlast.server.dashboard.visit import Visit
from outlast.store import catalog, lanes, overview, search
from outlast.store import charts as counting
from outlast.store.database import Connection

DAY_MS = 86_400_000
BUCKETS = 96
SHOWN = 8


async def show(visit: Visit) -> Response:
    """GET /"""
    chart: charts.Chart = await visit.site.shelf.get(("home", visit.env.id), lambda: _chart(visit))
    found = await visit.read(lambda tx: _figures(tx, visit))
    return visit.page("home.html", topics="home", chart=chart, **found)


async def _chart(visit: Visit) -> charts.Chart:
    oldest = await visit.read(lambda tx: counting.oldest_run(tx, visit.env.id))
    width = charts.span_of(oldest, visit.now, DAY_MS) // BUCKETS
    start = visit.now // width * width - (BUCKETS - 1) * width
    counts = await visit.read(lambda tx: counting.runs_over_time(tx, visit.env.id, start=start, width=width))
    return charts.stacked(counts, start=start, width=width, buckets=BUCKETS, height=120)


def _figures(tx: Connection, visit: Visit) -> dict[str, Any]:
    env_id = visit.env.id
    running, queued = counting.at_work(tx, env_id)
    _, queues = catalog.queue_page(tx, env_id, offset=0, limit=1_000)
    counts = lanes.counts(tx, [q.id for q in queues])
    busy = sorted(((q, *counts.get(q.id, (0, 0))) for q in queues), key=lambda x: (-x[2], -x[1], x[0].name))[:SHOWN]
    return {
        "running": running,
        "queued": queued,
        "latest": search.rows(tx, search.Filter(env_id=env_id), SHOWN),
        "queues": [x for x in busy if x[1] or x[2] or x[0].paused],
        "workers": [w for w in overview.workers(tx, env_id, since=visit.now) if w.state == "open"],
        "groups": [g for g in errors.groups(tx, env_id, since=visit.now - DAY_MS, now=visit.now, limit=500) if g.status in errors.OPEN][:5],
        "tasks": len(runs.task_names(tx, visit)),
    }
