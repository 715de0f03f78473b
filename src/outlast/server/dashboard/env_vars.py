"""Environment variables: set one, paste many, delete; a secret is never shown again."""

from __future__ import annotations

from starlette.responses import Response

from outlast.model.dotenv import parse_dotenv, unread_line
from outlast.server.api.env_vars import put, shown
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import env_vars as store

MAX_PASTED = 512 * 1024


async def show(visit: Visit) -> Response:
    """GET /env-vars"""
    found = await visit.read(lambda tx: store.listed(tx, visit.env.id))
    rows = [(v, shown(visit.site.context, visit.env.id, v)["value"]) for v in found]
    return visit.page("env_vars.html", topics="env-vars", rows=rows)


async def save(visit: Visit) -> Response:
    """POST /env-vars with `name` and `value`, or `pasted`, the text of a .env file"""
    pasted = visit.text("pasted", MAX_PASTED)
    variables = _pasted(pasted) if pasted else {visit.text("name", 300, required=True): visit.text("value", MAX_PASTED)}
    await put(visit.site.context, visit.env.id, variables, is_secret=visit.body.get("secret") == "1", override=True)
    return visit.done(f"Saved {len(variables)}: runs that start from now on find them", topics=("env-vars",))


def _pasted(text: str) -> dict[str, str]:
    """The variables of a .env file.

    Raises:
        Problem: 400, naming the line that is none.
    """
    if number := unread_line(text):
        raise Problem(400, f"line {number} is not NAME=value", param="pasted")
    if not (found := parse_dotenv(text)):
        raise Problem(400, "there is no variable in it", param="pasted")
    return found


async def delete(visit: Visit) -> Response:
    """POST /env-vars/{name}/delete"""
    name = visit.request.path_params["name"]
    if "\x00" in name or not await visit.site.engine.write(lambda tx: store.delete(tx, visit.env.id, name)):
        raise Problem(404, "no such variable")
    return visit.done(f"Deleted {name}", topics=("env-vars",))
