"""Errors: groups of equal failures, and what was decided about them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.model.duration import parse_duration
from outlast.server import body as bodies
from outlast.server import errors
from outlast.server.context import answer, of
from outlast.server.errors import Group
from outlast.server.problem import Problem, invalid
from outlast.server.push import iso

MAX_PERIOD_MS = 365 * 86_400_000
SHOWN = 200


async def listing(request: Request) -> Response:
    """GET /api/outlast/v1/errors?period=7d&status=unresolved&task="""
    context = of(request)
    caller = await context.caller(request)
    query, now = request.query_params, context.engine.clock.now()
    try:
        period = min(parse_duration(query.get("period", "7d")), MAX_PERIOD_MS)
    except ValueError as error:
        raise invalid(f"period: {error}", "period") from error
    status, task = query.get("status"), query.get("task") or None
    if status is not None and status not in errors.STATUSES:
        raise invalid(f"status must be one of {', '.join(errors.STATUSES)}", "status")
    if task is not None and "\x00" in task:
        raise invalid("task must be the id of a task", "task")
    found = await context.engine.read(lambda tx: errors.groups(tx, caller.env.id, since=now - period, now=now, task=task))
    return answer({"data": [wire(group) for group in found if status in (None, group.status)][:SHOWN]})


async def decide(request: Request) -> Response:
    """POST /api/outlast/v1/errors/{error} with {"action": "resolve" | "ignore" | "reopen"}

    `resolve` takes `version`, the first without the error; `ignore` takes `until` (a duration), `more` failures, or `perHour`.
    """
    context = of(request)
    caller = await context.caller(request)
    body = await bodies.read_object(request)
    group = request.path_params["error"]
    if not is_id(group) or not await context.engine.read(lambda tx: errors.is_known(tx, caller.env.id, group)):
        raise Problem(404, "Error group not found")
    decision = errors.decided(caller.env.id, group, body, by=f"API key {caller.key_name}"[:200], now=context.engine.clock.now())
    await context.engine.write(lambda tx: errors.decide(tx, caller.env.id, group, decision))
    return answer({"id": group, "status": "unresolved" if decision is None else decision.status})


def is_id(group: str) -> bool:
    return group.startswith("error_") and group[6:].isalnum() and group.isascii() and len(group) == 22


def wire(group: Group) -> dict[str, Any]:
    return {
        "id": group.id, "name": group.name, "message": group.message[:1_000], "task": group.task, "status": group.status,
        "count": len(group.runs), "firstSeen": iso(group.first_at), "lastSeen": iso(group.last_at), "versions": group.versions[-5:],
        "reason": group.decision.reason if group.decision else None, "runs": [run.run_id for run in group.runs[:20]],
    }  # fmt: skip
