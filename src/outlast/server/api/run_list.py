"""Lists of runs: filters, and pages forwards and back."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from outlast.model.limits import MACHINES
from outlast.model.run import Run, RunData, Status
from outlast.server import errors, wire
from outlast.server.auth import Caller
from outlast.server.context import answer, of
from outlast.server.problem import Problem, invalid
from outlast.server.query import cursor, cut, many, one, page_size, times
from outlast.store import search
from outlast.store.database import Connection
from outlast.store.search import Filter

DEFAULT_PERIOD_MS = 7 * 86_400_000


async def listing(request: Request) -> Response:
    """GET /api/v1/runs, and /api/v1/projects/{ref}/runs"""
    context = of(request)
    caller = await context.caller(request, public=True)
    size = page_size(request, default=25)
    f = filter_of(request, caller.env.id, context.engine.clock.now())
    _need(caller, f.tasks)
    slugs = many(request.query_params, "filter[env]")
    elsewhere = bool(slugs) and not any(map(caller.is_of, slugs))
    groups = many(request.query_params, "filter[error]")

    def read(tx: Connection) -> list[tuple[Run, RunData]]:
        ids = errors.runs_of(tx, f.env_id, groups, since=f.created_from or 0) if groups else None
        return search.page(tx, replace(f, ids=ids), size + 1) if ids != [] else []

    rows = [] if elsewhere else await context.engine.read(read)
    rows, pagination = cut(rows, size, f, lambda pair: pair[0].id)
    env = {"id": str(caller.env.id), "name": caller.env.slug}
    return answer({"data": [{**wire.common(run, data), "env": env} for run, data in rows], "pagination": pagination})


def _need(caller: Caller, tasks: Sequence[str]) -> None:
    """All runs, or all of the tasks that are asked for."""
    try:
        caller.need("read", ("runs", None), ("tasks", None))
    except Problem:
        if not tasks:
            raise
        for task in tasks:
            caller.need("read", ("tasks", task))


def filter_of(request: Request, env_id: int, now: int) -> Filter:
    """What the query asks for.

    Raises:
        Problem: 400, naming the parameter.
    """
    query = request.query_params
    statuses, machines = many(query, "filter[status]"), many(query, "filter[machine]")
    if wrong := [status for status in statuses if status not in Status.__members__]:
        raise invalid(f"Invalid status values: {', '.join(wrong)[:200]}", "filter[status]")
    if wrong := [machine for machine in machines if machine not in MACHINES]:
        raise invalid(f"filter[machine] must be of {', '.join(MACHINES)}", "filter[machine]")
    before, after, is_test = query.get("page[before]"), query.get("page[after]"), query.get("filter[isTest]")
    created_from, created_to = times(query, now, "filter[createdAt][{}]", default_ms=DEFAULT_PERIOD_MS)
    return Filter(
        env_id=env_id,
        before=cursor(before, "run_") if before else None,
        after=cursor(after, "run_") if after and not before else None,
        statuses=statuses,
        tasks=many(query, "filter[taskIdentifier]"),
        versions=many(query, "filter[version]"),
        tags=many(query, "filter[tag]"),
        queues=many(query, "filter[queue]"),
        machines=machines,
        regions=many(query, "filter[region]"),
        batch=one(query, "filter[batch]"),
        schedule=one(query, "filter[schedule]"),
        bulk_action=one(query, "filter[bulkAction]"),
        is_test=None if is_test is None else is_test == "true",
        created_from=created_from,
        created_to=created_to,
    )
