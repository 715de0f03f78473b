"""Queues: what they hold, pausing, limits; and the concurrency keys of one."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from outlast.engine import queues as operations
from outlast.model.flow import OverrideLimit, PauseEnvironment, PauseQueue
from outlast.model.limits import MAX_CONCURRENCY
from outlast.server.dashboard import charts
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import catalog, lanes, search
from outlast.store import charts as counting
from outlast.store.catalog import Queue
from outlast.store.database import Connection

PAGE = 50
KEYS = 100
SHOWN = 25
DAY_MS = 86_400_000
BUCKETS = 60


def health(queue: Queue, running: int, queued: int, limit: int) -> str:
    if queue.paused:
        return "PAUSED"
    if queued and running >= limit:
        return "AT_CAPACITY"
    if queued:
        return "BACKLOGGED"
    return "ACTIVE" if running else "IDLE"


def limit_of(visit: Visit, queue: Queue) -> tuple[int, str]:
    """(how many may run at once, who says so)"""
    own = queue.override if queue.overridden_at is not None else queue.limit
    if own is None or own >= visit.env.limit:
        return visit.env.limit, "environment"
    return own, "override" if queue.overridden_at is not None else "code"


async def show(visit: Visit) -> Response:
    """GET /queues"""
    number = visit.query.get("page", "1")
    page = min(max(int(number), 1), 100_000) if number.isdecimal() and len(number) < 7 else 1

    def query(tx: Connection) -> dict[str, Any]:
        total, found = catalog.queue_page(tx, visit.env.id, offset=(page - 1) * PAGE, limit=PAGE)
        counts = lanes.counts(tx, [q.id for q in found])
        running, queued = counting.at_work(tx, visit.env.id)
        return {"total": total, "rows": [_row(visit, q, *counts.get(q.id, (0, 0))) for q in found], "running": running, "queued": queued}

    return visit.page("queues/list.html", topics="queues", page=page, size=PAGE, **await visit.read(query))


def _row(visit: Visit, queue: Queue, running: int, queued: int) -> dict[str, Any]:
    limit, limited_by = limit_of(visit, queue)
    return {
        "queue": queue, "running": running, "queued": queued, "limit": limit, "limited_by": limited_by,
        "health": health(queue, running, queued, limit),
    }  # fmt: skip


async def found(visit: Visit) -> Queue:
    """The queue of the address.

    Raises:
        Problem: 404.
    """
    public_id = visit.request.path_params["queue"]
    queue = await visit.read(lambda tx: catalog.queue(tx, visit.env.id, public_id=public_id)) if "\x00" not in public_id else None
    if queue is None:
        raise Problem(404, "no such queue")
    return queue


async def show_one(visit: Visit) -> Response:
    """GET /queues/{queue}"""
    queue = await found(visit)
    width = DAY_MS // BUCKETS
    start = visit.now // width * width - (BUCKETS - 1) * width

    async def draw() -> charts.Chart:
        counts = await visit.read(lambda tx: counting.runs_over_time(tx, visit.env.id, start=start, width=width, queue=queue.name))
        return charts.stacked(counts, start=start, width=width, buckets=BUCKETS)

    def query(tx: Connection) -> dict[str, Any]:
        running, queued = lanes.counts(tx, [queue.id]).get(queue.id, (0, 0))
        rows = search.rows(tx, search.Filter(env_id=visit.env.id, queues=[queue.name]), SHOWN)
        return {
            **_row(visit, queue, running, queued),
            "rows": rows,
            "keys": lanes.by_key(tx, queue.id, KEYS),
            "delays": counting.delays(tx, visit.env.id, queue.name),
        }

    chart = await visit.site.shelf.get(("queue", queue.id), draw)
    return visit.page("queues/queue.html", topics="queues", chart=chart, **await visit.read(query))


async def pause(visit: Visit) -> Response:
    """POST /queues/{queue}/pause with `paused`"""
    queue = await found(visit)
    paused = visit.body.get("paused") is True
    await visit.call(operations.pause_queue, PauseQueue(env_id=visit.env.id, queue_id=queue.id, paused=paused))
    return visit.done("Paused: nothing new starts" if paused else "Resumed", topics=("queues",))


async def override(visit: Visit) -> Response:
    """POST /queues/{queue}/limit with `limit`; none takes the override back"""
    queue = await found(visit)
    text = visit.text("limit", 10)
    if text and not (text.isdecimal() and int(text) <= MAX_CONCURRENCY):
        raise Problem(400, f"the limit is a number from 0 to {MAX_CONCURRENCY}", param="limit")
    item = OverrideLimit(env_id=visit.env.id, queue_id=queue.id, limit=int(text) if text else None, by=visit.by)
    await visit.call(operations.override_limit, item)
    return visit.done("Limit set" if text else "The limit of the code holds again", topics=("queues",))


async def pause_environment(visit: Visit) -> Response:
    """POST /queues/environment with `paused`"""
    paused = visit.body.get("paused") is True
    await visit.call(operations.pause_environment, PauseEnvironment(env_id=visit.env.id, paused=paused))
    return visit.done(
        "The environment is paused" if paused else "The environment goes on", topics=("queues", "runs", "home"), href=visit.path("/queues")
    )
