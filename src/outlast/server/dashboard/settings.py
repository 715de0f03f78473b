"""Limits of this environment, and how this browser shows things."""

from __future__ import annotations

from starlette.responses import Response

from outlast.model import limits
from outlast.server.dashboard.visit import Visit
from outlast.store import charts as counting


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
