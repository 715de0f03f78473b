"""Tasks: what the current version holds, how busy each is, and its page."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from outlast.model.manifest import TaskDefinition
from outlast.server.dashboard import charts, runs
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import catalog, search
from outlast.store import charts as counting
from outlast.store.charts import Counts
from outlast.store.database import Connection

DAY_MS = 86_400_000
SPARKS = 24
BUCKETS = 60
SHOWN = 25


async def show(visit: Visit) -> Response:
    """GET /tasks"""
    width = DAY_MS // SPARKS
    start = visit.now // width * width - (SPARKS - 1) * width

    async def count() -> dict[str, Counts]:
        return await visit.read(lambda tx: counting.tasks_over_time(tx, visit.env.id, start=start, width=width))

    activity: dict[str, Counts] = await visit.site.shelf.get(("tasks", visit.env.id), count)
    found = await visit.read(lambda tx: _listed(tx, visit))
    text = visit.query.get("q", "").lower()
    rows = [
        (task, found["busy"].get(task.id, (0, 0)), _spark(activity, task.id, start, width))
        for task in found["tasks"]
        if text in task.id.lower()
    ]
    return visit.page("tasks/list.html", topics="tasks,deployments", rows=rows, known=len(found["tasks"]), text=text)


def _listed(tx: Connection, visit: Visit) -> dict[str, Any]:
    version = visit.env.current_version
    tasks = sorted(catalog.task_definitions(tx, visit.env.id, version).values(), key=lambda t: t.id) if version else []
    return {"tasks": tasks, "busy": counting.at_work_by_task(tx, visit.env.id)}


def _spark(activity: dict[str, Counts], task: str, start: int, width: int) -> charts.Chart:
    return charts.stacked(activity.get(task, {}), start=start, width=width, buckets=SPARKS, height=20, bar=6)


async def definition(visit: Visit) -> TaskDefinition:
    """The task of the address, in the current version.

    Raises:
        Problem: 404.
    """
    name, version = visit.request.path_params["task"], visit.env.current_version
    found = (
        await visit.read(lambda tx: catalog.task_definitions(tx, visit.env.id, version, [name])) if version and "\x00" not in name else {}
    )
    if name not in found:
        raise Problem(404, "no such task in the current version")
    return found[name]


async def show_one(visit: Visit) -> Response:
    """GET /tasks/{task}"""
    task = await definition(visit)
    asked = {**runs.asked_for(visit), "task": [task.id]}
    chart = await runs.activity(visit, asked)
    found = await visit.read(
        lambda tx: (
            search.rows(tx, search.Filter(env_id=visit.env.id, tasks=[task.id]), SHOWN),
            counting.durations(tx, visit.env.id, task.id),
        )
    )
    schema = msgspec.json.encode(task.payload_schema).decode() if task.payload_schema else None
    return visit.page(
        "tasks/task.html", topics="tasks,deployments", task=task, chart=chart, rows=found[0], durations=found[1], schema=schema
    )
