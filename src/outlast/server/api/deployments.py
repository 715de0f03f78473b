"""Deployments: which versions there are, and the one that runs now. A worker's registration makes them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.server.context import answer, of
from outlast.server.problem import Problem, invalid
from outlast.server.push import iso
from outlast.server.query import page_size, times
from outlast.store import catalog, deployments
from outlast.store.deployments import Deployment

STATUSES = ("PENDING", "INSTALLING", "BUILDING", "DEPLOYING", "DEPLOYED", "FAILED", "CANCELED", "TIMED_OUT")
PREFIX = "deployment_"


async def listing(request: Request) -> Response:
    """GET /api/v1/deployments"""
    context = of(request)
    caller = await context.caller(request)
    query = request.query_params
    status = query.get("status")
    if status is not None and status not in STATUSES:
        raise invalid(f"status must be one of {', '.join(STATUSES)}", "status")
    size = page_size(request, default=20)
    start, end = times(query, context.engine.clock.now(), "{}", default_ms=None)
    before, after = query.get("page[before]"), query.get("page[after]")
    rows = await context.engine.read(
        lambda tx: deployments.page(
            tx, caller.env.id, status=status, start=start, end=end, limit=size,
            before=_version(before) if before else None, after=_version(after) if after and not before else None,
        )
    )  # fmt: skip
    more, shown = len(rows) > size, rows[:size]
    if before:
        shown = shown[::-1]
    pagination: dict[str, str] = {}
    if shown and (more or before):
        pagination["next"] = _id(shown[-1])
    if shown and ((before and more) or (after and not before)):
        pagination["previous"] = _id(shown[0])
    return answer({"data": [_wire(found) for found in shown], "pagination": pagination})


async def retrieve(request: Request) -> Response:
    """GET /api/v1/deployments/{deployment}: by its id, its version, or `current`"""
    context = of(request)
    caller = await context.caller(request)
    name = request.path_params["deployment"]
    env = await context.engine.read(lambda tx: catalog.environment(tx, caller.env.id))
    version = env.current_version if name == "current" else _version(name)
    found = await context.engine.read(lambda tx: deployments.read(tx, env.id, version)) if version and "\x00" not in version else None
    if found is None:
        raise Problem(404, "Deployment not found")
    return answer(_wire(found))


def _id(found: Deployment) -> str:
    return PREFIX + found.version.replace(".", "x")


def _version(name: str) -> str:
    if "\x00" in name or len(name) > 64:
        raise Problem(404, "Deployment not found")
    return name.removeprefix(PREFIX).replace("x", ".") if name.startswith(PREFIX) else name


def _wire(found: Deployment) -> dict[str, Any]:
    return {
        "id": _id(found),
        "createdAt": iso(found.created_at),
        "shortCode": found.digest[:8],
        "version": found.version,
        "runtime": "python",
        "runtimeVersion": found.python,
        "status": found.status,
        "deployedAt": iso(found.created_at),
    }
