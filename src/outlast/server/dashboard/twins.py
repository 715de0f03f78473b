"""The data of a page: its address with `.json` behind it answers what the API answers, for who is signed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.server import wire
from outlast.server.api import alerts, batches, bulk, deployments, env_vars, errors, limits, queues, schedules, tokens, workers
from outlast.server.api import runs as run_api
from outlast.server.auth import Caller
from outlast.server.context import CALLER
from outlast.server.dashboard import runs
from outlast.server.dashboard.visit import NO_STORE, Visit
from outlast.store import runs as rows_of
from outlast.store.database import Connection

Handler = Callable[[Request], Awaitable[Response]]
Twin = Callable[[Visit], Awaitable[Response]]


async def list_of_runs(visit: Visit) -> Response:
    """GET /runs.json: with the filters and the cursors of the page"""
    asked = runs.asked_for(visit)

    def read(tx: Connection) -> dict[str, Any]:
        found, older, newer, _ = runs.rows_of_page(tx, visit, runs.filter_of(tx, visit, asked))
        data = rows_of.data(tx, [run.id for run, _ in found])
        shown = [wire.common(run, data[run.id]) for run, _ in found if run.id in data]
        ends = {"next": found[-1][0].id if older and found else None, "previous": found[0][0].id if newer and found else None}
        return {"data": shown, "pagination": {name: id_ for name, id_ in ends.items() if id_}}

    return visit.json(await visit.read(read))


def _same_as(handler: Handler, **fixed: str) -> Twin:
    """`fixed`: what the API's path says and the page's does not."""

    async def twin(visit: Visit) -> Response:
        session = visit.access.session
        key = "" if session is None else session.key_id or ""
        visit.request.scope[CALLER] = Caller(env=visit.env, key_id=key, key_name=visit.by, role=visit.access.role)
        visit.request.path_params.update(fixed)
        response = await handler(visit.request)
        response.headers.update(NO_STORE)
        return response

    return twin


TWINS: list[tuple[str, Twin]] = [
    ("/runs.json", list_of_runs),
    ("/runs/{run}.json", _same_as(run_api.retrieve)),
    ("/errors.json", _same_as(errors.listing)),
    ("/queues.json", _same_as(queues.listing)),
    ("/queues/{queue}.json", _same_as(queues.retrieve)),
    ("/schedules.json", _same_as(schedules.listing)),
    ("/schedules/{schedule}.json", _same_as(schedules.retrieve)),
    ("/batches/{batch}.json", _same_as(batches.retrieve)),
    ("/tokens.json", _same_as(tokens.listing)),
    ("/bulk.json", _same_as(bulk.listing)),
    ("/deployments.json", _same_as(deployments.listing)),
    ("/deployments/{deployment}.json", _same_as(deployments.retrieve)),
    ("/workers.json", _same_as(workers.listing)),
    ("/alerts.json", _same_as(alerts.listing)),
    ("/env-vars.json", _same_as(env_vars.listing, ref="default", slug="current")),
    ("/settings.json", _same_as(limits.listing)),
]
