"""How this browser wants things shown; it keeps that itself, in cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from outlast.server.dashboard.visit import Visit

SIDE = "outlast_side"  # written by the page itself
LOOK, COLUMNS = "outlast_look", "outlast_columns"  # words between points; of columns those that are not as they are at first
RUN_COLUMNS = {
    "version": ("Version", True),
    "queue": ("Queue", True),
    "key": ("Concurrency key", False),
    "tags": ("Tags", True),
    "attempt": ("Attempt", True),
    "started": ("Started", False),
    "duration": ("Duration", True),
    "created": ("Created", True),
    "delayed": ("Delayed until", False),
    "ttl": ("Time to live", False),
}  # label, and whether it is shown at first


def look(request: Request) -> dict[str, str]:
    """Theme, density, and whether the side menu is folded."""
    words = request.cookies.get(LOOK, "").split(".")
    theme = next((w for w in words if w in ("dark", "light")), "")
    density = next((w for w in words if w in ("compact", "roomy")), "")
    folded = "folded" if request.cookies.get(SIDE) == "1" else ""
    return {"theme": theme, "density": density, "side": folded, "keys": "off" if "nokeys" in words else "on"}


def columns(request: Request) -> list[str]:
    """Of the list of runs, those that are shown."""
    changed = request.cookies.get(COLUMNS, "").split(".")
    return [name for name, (_, at_first) in RUN_COLUMNS.items() if at_first != (name in changed)]


def of(request: Request) -> tuple[str, str]:
    """What two browsers must have alike to be shown the same."""
    return request.cookies.get(LOOK, ""), request.cookies.get(COLUMNS, "")


async def remember(visit: Visit) -> Response:
    """POST /ui/preferences: theme, density and single-letter keys; or which columns are shown."""
    response, body = visit.done("Saved"), visit.body
    if "theme" in body:
        words = [visit.text(name, 10) for name in ("theme", "density")] + (["nokeys"] if body.get("keys") is False else [])
        _keep(response, LOOK, [word for word in words if word.isalpha()])
    else:
        _keep(response, COLUMNS, [name for name, (_, at_first) in RUN_COLUMNS.items() if body.get(name, at_first) is not at_first])
    return response


def _keep(response: Response, name: str, words: list[str]) -> None:
    response.set_cookie(name, ".".join(words), max_age=31_536_000, samesite="lax", httponly=True)
