"""Deployments and workers: which versions there are, and who runs them."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from outlast.model.manifest import TaskDefinition
from outlast.server.api.workers import GONE_MS, drained, state
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import catalog, overview
from outlast.store.database import Connection

LISTED = 200


async def deployments(visit: Visit) -> Response:
    """GET /deployments"""
    rows = await visit.read(lambda tx: overview.versions(tx, visit.env.id, LISTED))
    return visit.page("machines/deployments.html", topics="deployments,workers", rows=rows)


async def deployment(visit: Visit) -> Response:
    """GET /deployments/{version}: its tasks, and what differs from the version before it"""
    version = visit.request.path_params["version"]

    def query(tx: Connection) -> dict[str, Any]:
        rows = overview.versions(tx, visit.env.id, LISTED)
        at = next((i for i, row in enumerate(rows) if row.version == version), None)
        if at is None:
            return {}
        older = catalog.task_definitions(tx, visit.env.id, rows[at + 1].version) if at + 1 < len(rows) else {}
        tasks = catalog.task_definitions(tx, visit.env.id, version)
        return {
            "row": rows[at],
            "tasks": [(t, _change(t, older, at + 1 < len(rows))) for t in _sorted(tasks)],
            "gone": sorted(set(older) - set(tasks)),
        }

    found = await visit.read(query) if "\x00" not in version else {}
    if not found:
        raise Problem(404, "no such version")
    return visit.page("machines/deployment.html", topics="deployments", **found)


def _sorted(tasks: dict[str, TaskDefinition]) -> list[TaskDefinition]:
    return [tasks[name] for name in sorted(tasks)]


def _change(task: TaskDefinition, older: dict[str, TaskDefinition], is_compared: bool) -> str:
    if not is_compared or older.get(task.id) == task:
        return ""
    return "changed" if task.id in older else "new"


async def workers(visit: Visit) -> Response:
    """GET /workers"""
    rows = await visit.read(lambda tx: overview.workers(tx, visit.env.id, since=visit.now - GONE_MS))
    return visit.page("machines/workers.html", topics="workers", rows=[(row, state(row)) for row in rows])


async def drain(visit: Visit) -> Response:
    """POST /workers/{worker}/drain"""
    await drained(visit.site.context, visit.env.id, visit.request.path_params["worker"])
    return visit.done("It takes nothing new, and leaves when its runs are over", topics=("workers",))
