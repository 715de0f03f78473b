"""Lines of all runs, searched."""

from __future__ import annotations

from starlette.responses import Response

from outlast.server.dashboard import runs
from outlast.server.dashboard.run import LEVELS
from outlast.server.dashboard.visit import Visit
from outlast.store import trace

PAGE = 100


async def show(visit: Visit) -> Response:
    """GET /logs"""
    query = visit.query
    text, task = (query.get(name, "").strip()[:200] for name in ("q", "task"))
    levels = [level for level in query.getlist("level") if level in LEVELS]
    before = query.get("before", "")
    seq = int(before) if before.isdecimal() and len(before) < 18 else None
    clean = "\x00" not in text + task
    rows, tasks = await visit.read(
        lambda tx: (
            trace.every_line(tx, visit.env.id, limit=PAGE + 1, before=seq, levels=levels, text=text, task=task) if clean else [],
            runs.task_names(tx, visit),
        )
    )
    return visit.page(
        "logs.html", topics="logs", rows=rows[:PAGE], older=rows[PAGE - 1][0].seq if len(rows) > PAGE else None, newer=seq is not None,
        text=text, task=task, levels=LEVELS, asked_levels=levels, tasks=tasks,
    )  # fmt: skip
