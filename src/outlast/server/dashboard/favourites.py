"""Acts on favourites: keep the filters of the list of runs under a name, and forget them."""

from __future__ import annotations

from starlette.datastructures import QueryParams
from starlette.responses import Response

from outlast.server.dashboard import runs
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import favourites as store

MAX_NAME = 60


async def keep(visit: Visit) -> Response:
    """POST /favourites with `name` and `query`, what the address of the list says"""
    name = visit.text("name", MAX_NAME, required=True).strip()
    query = runs.address(runs.asked_for(visit, QueryParams(visit.text("query", 4_000))))
    if not name or query == "?":
        raise Problem(400, "name a list that is filtered", param="name")
    if not await visit.site.engine.write(lambda tx: store.keep(tx, visit.env.id, name, query, by=visit.by, now=visit.now)):
        raise Problem(400, f"there are {store.MAX_FAVOURITES} favourites, which is the limit: forget one first", param="name")
    return visit.done(f"Kept as {name}", topics=("runs",))


async def forget(visit: Visit) -> Response:
    """POST /favourites/forget with `name`"""
    name = visit.text("name", MAX_NAME, required=True)
    await visit.site.engine.write(lambda tx: store.forget(tx, visit.env.id, name))
    return visit.done("Forgotten", topics=("runs",))
