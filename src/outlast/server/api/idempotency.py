"""Idempotency keys: give one back, so that the next trigger with it makes a new run."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from outlast.model.limits import TASK_ID
from outlast.server import body as bodies
from outlast.server import options
from outlast.server.context import answer, of
from outlast.server.problem import Problem, invalid
from outlast.store import idempotency


async def reset(request: Request) -> Response:
    """POST /api/v1/idempotencyKeys/{key}/reset"""
    context = of(request)
    caller = await context.caller(request, public=True)
    caller.need("write", ("runs", None))
    body = await bodies.read_object(request)
    task = body.get("taskIdentifier")
    if not isinstance(task, str) or not TASK_ID.fullmatch(task):
        raise invalid("taskIdentifier must be the id of a task", "taskIdentifier")
    key = request.path_params["key"]
    hashed = options.idempotency_key(key)
    released = await context.engine.write(lambda tx: idempotency.release(tx, caller.env.id, task, hashed or ""))
    if released is None:
        raise Problem(404, f"No runs found with idempotency key: {key[:100]} and task: {task}")
    return answer({"id": key})
