"""Queues: what they hold, pause and resume, override and reset; and pausing a whole environment."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.engine import queues
from outlast.model.flow import OverrideLimit, PauseEnvironment, PauseQueue
from outlast.model.limits import MAX_CONCURRENCY
from outlast.server import body as bodies
from outlast.server import wire
from outlast.server.context import accepted, answer, of
from outlast.server.problem import Problem, invalid
from outlast.server.push import iso
from outlast.server.query import number, times
from outlast.store import catalog, charts, lanes
from outlast.store.catalog import Queue
from outlast.store.database import Connection

HOUR_MS = 3_600_000
MAX_PERIOD_MS = 31 * 86_400_000
BUCKETS = 60
KINDS = ("id", "task", "custom")


async def listing(request: Request) -> Response:
    """GET /api/v1/queues"""
    context = of(request)
    caller = await context.caller(request)
    page, size = number(request, "page", 1, 1_000_000), number(request, "perPage", 25, 100)

    def query(tx: Connection) -> tuple[int, list[Queue], dict[int, tuple[int, int]]]:
        total, found = catalog.queue_page(tx, caller.env.id, offset=(page - 1) * size, limit=size)
        return total, found, lanes.counts(tx, [queue.id for queue in found])

    total, found, counts = await context.engine.read(query)
    data = [wire.queue(queue, counts.get(queue.id, (0, 0))) for queue in found]
    return answer({"data": data, "pagination": {"currentPage": page, "totalPages": max(1, -(-total // size)), "count": total}})


async def _found(request: Request, kind: Any) -> tuple[Queue, int]:
    """The queue of the path. A slash in its name arrives encoded twice."""
    context = of(request)
    caller = await context.caller(request)
    if kind not in KINDS:
        raise invalid(f"type must be one of {', '.join(KINDS)}", "type")
    name = request.path_params["queue"].replace("%2F", "/").replace("%2f", "/")
    if len(name) > 200:
        raise Problem(404, "queue-not-found")
    if kind == "id":
        queue = await context.engine.read(lambda tx: catalog.queue(tx, caller.env.id, public_id=name))
    else:
        wanted = name if kind == "custom" or name.startswith("task/") else f"task/{name}"
        queue = await context.engine.read(lambda tx: catalog.queue(tx, caller.env.id, name=wanted))
    if queue is None:
        raise Problem(404, "queue-not-found")
    return queue, caller.env.id


async def _answer(request: Request, queue: Queue) -> Response:
    def query(tx: Connection) -> tuple[Queue | None, tuple[int, int]]:
        return catalog.queue(tx, queue.env_id, id=queue.id), lanes.counts(tx, [queue.id]).get(queue.id, (0, 0))

    fresh, counts = await of(request).engine.read(query)
    return answer(wire.queue(fresh or queue, counts))


async def retrieve(request: Request) -> Response:
    """GET /api/v1/queues/{queue}?type=id|task|custom"""
    queue, _ = await _found(request, request.query_params.get("type", "id"))
    return await _answer(request, queue)


async def metrics(request: Request) -> Response:
    """GET /api/v1/queues/{queue}/metrics: runs by the time they were triggered, in 60 parts of a period, and how long the last waited."""
    queue, env_id = await _found(request, request.query_params.get("type", "id"))
    now = of(request).engine.clock.now()
    start, end = times(request.query_params, now, "{}", default_ms=HOUR_MS)
    end = min(end or now, now)
    start = max(start or 0, end - MAX_PERIOD_MS)
    if start >= end:
        raise invalid("from must be before to, and in the past", "from")
    width = max(1, -(-(end - start) // BUCKETS))

    def query(tx: Connection) -> tuple[tuple[int, int], charts.Counts, tuple[int, int] | None]:
        counted = charts.runs_over_time(tx, env_id, start=start, width=width, queue=queue.name)
        return lanes.counts(tx, [queue.id]).get(queue.id, (0, 0)), counted, charts.delays(tx, env_id, queue.name)

    counts, counted, waits = await of(request).engine.read(query)
    body: dict[str, Any] = {"queue": wire.queue(queue, counts), "from": iso(start), "to": iso(end), "bucketMs": width}
    body["buckets"] = [{"at": iso(start + i * width), "runs": _by_status(counted, i)} for i in range(BUCKETS)]
    if waits is not None:
        body["waitMs"] = {"p50": waits[0], "p95": waits[1]}  # from the queue to the start, of the last thousand runs that have begun
    return answer(body)


def _by_status(counted: charts.Counts, bucket: int) -> dict[str, int]:
    return {status: n for (at, status), n in sorted(counted.items()) if at == bucket}


async def pause(request: Request) -> Response:
    """POST /api/v1/queues/{queue}/pause with action pause or resume"""
    body = await bodies.read_object(request)
    queue, env_id = await _found(request, body.get("type", "id"))
    action = body.get("action")
    if action not in ("pause", "resume"):
        raise invalid("action must be pause or resume", "action")
    accepted(await of(request).engine.call(queues.pause_queue, PauseQueue(env_id=env_id, queue_id=queue.id, paused=action == "pause")))
    return await _answer(request, queue)


async def override(request: Request) -> Response:
    """POST /api/v1/queues/{queue}/concurrency/override"""
    body = await bodies.read_object(request)
    queue, env_id = await _found(request, body.get("type", "id"))
    limit = body.get("concurrencyLimit")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= MAX_CONCURRENCY:
        raise invalid(f"concurrencyLimit must be 0 to {MAX_CONCURRENCY}", "concurrencyLimit")
    caller = await of(request).caller(request)
    item = OverrideLimit(env_id=env_id, queue_id=queue.id, limit=limit, by=caller.key_name)
    accepted(await of(request).engine.call(queues.override_limit, item))
    return await _answer(request, queue)


async def reset(request: Request) -> Response:
    """POST /api/v1/queues/{queue}/concurrency/reset"""
    body = await bodies.read_object(request)
    queue, env_id = await _found(request, body.get("type", "id"))
    accepted(await of(request).engine.call(queues.override_limit, OverrideLimit(env_id=env_id, queue_id=queue.id, limit=None)))
    return await _answer(request, queue)


async def pause_environment(request: Request) -> Response:
    """POST /api/v1/projects/{ref}/{env}/pause, and resume"""
    context = of(request)
    caller = await context.caller(request)
    if not caller.is_of(request.path_params["env"]):
        raise Problem(404, "Environment not found")
    paused = request.url.path.endswith("/pause")
    await context.engine.call(queues.pause_environment, PauseEnvironment(env_id=caller.env.id, paused=paused))
    return answer({"success": True, "paused": paused})
