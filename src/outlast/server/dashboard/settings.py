"""Limits of this environment, how this browser shows things, and what the palette finds."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from outlast.model import limits
from outlast.server.dashboard import runs
from outlast.server.dashboard.visit import Visit
from outlast.store import catalog, search
from outlast.store import charts as counting
from outlast.store.database import Connection

FOUND = 8


async def show(visit: Visit) -> Response:
    """GET /settings"""
    running, queued = await visit.read(lambda tx: counting.at_work(tx, visit.env.id))
    mb = 1024 * 1024
    rows: list[tuple[str, str, int | None, int | None]] = [
        ("Runs at once", "OUTLAST_DEV_CONCURRENCY" if visit.env.is_dev else "OUTLAST_CONCURRENCY", running, visit.env.limit),
        ("Runs at once with burst", "OUTLAST_BURST", running, visit.env.room),
        ("Queued runs", "environment", queued, visit.env.max_queue_size),
        ("Payload, MB", "fixed", None, limits.MAX_PAYLOAD_BYTES // mb),
        ("Items of a batch", "fixed", None, limits.MAX_BATCH_ITEMS),
        ("Tags of a run", "fixed", None, limits.MAX_TAGS),
        ("Attempts of a run", "fixed", None, limits.MAX_ATTEMPTS),
    ]
    return visit.page("settings.html", topics="home", limits=rows)


async def find(visit: Visit) -> Response:
    """GET /ui/find?q=: runs, tasks and queues by a part of their names"""
    text = visit.query.get("q", "").strip()[:100]
    return visit.json(await visit.read(lambda tx: _find(tx, visit, text)) if text and "\x00" not in text else [])


def _find(tx: Connection, visit: Visit, text: str) -> list[dict[str, Any]]:
    low = text.lower()
    found = [{"text": name, "hint": "task", "href": f"/tasks/{name}"} for name in runs.task_names(tx, visit) if low in name.lower()][:FOUND]
    queues = [
        q
        for q in catalog.queue_page(tx, visit.env.id, offset=0, limit=1_000)[1]
        if low in q.name.lower() and not q.name.startswith("task/")
    ]
    found += [{"text": q.name, "hint": "queue", "href": f"/queues/{q.public_id}"} for q in queues[:FOUND]]
    if len(text) >= 4 and text.replace("_", "").isalnum():
        rows = search.rows(tx, search.Filter(env_id=visit.env.id, like_id=text), FOUND)
        found += [{"text": f"{run.task} …{run.id[-8:]}", "hint": run.status.value.lower(), "href": f"/runs/{run.id}"} for run, _ in rows]
    return found
