"""Signing in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from outlast.server import body as bodies
from outlast.server.dashboard import access as doors
from outlast.server.dashboard import preferences, rendering
from outlast.server.dashboard.visit import Visit
from outlast.server.prefix import ROOT
from outlast.server.problem import Problem
from outlast.store import signins

if TYPE_CHECKING:
    from outlast.server.dashboard.site import Site

MAX_FORM_BYTES = 8 * 1024
WRONG = "That did not work. Check the key, or ask for a new link."


async def show(site: Site, request: Request) -> Response:
    """GET /login, and /login/{link}: a link is used by the button, so that a program that only looks at links uses none up."""
    if await site.gate.access(request) is not None and "link" not in request.path_params:
        return rendering.redirect(ROOT.get() + doors.next_page(request.query_params.get("next")))
    return _form(request, link=request.path_params.get("link", "")[: doors.MAX_SECRET_CHARS])


async def sign_in(site: Site, request: Request) -> Response:
    """POST /login"""
    doors.check_origin(request)
    form = parse_qs((await bodies.read(request, MAX_FORM_BYTES)).decode(errors="replace"), max_num_fields=10)
    secret, wanted = form.get("key", [""])[0].strip(), form.get("next", [""])[0]
    try:
        session = await site.gate.sign_in(request, secret)
    except Problem as problem:
        return _form(request, error=problem.message, status=problem.status, wanted=wanted, headers=problem.headers)
    if session is None:
        return _form(request, error=WRONG, status=401, wanted=wanted)
    response = rendering.redirect(ROOT.get() + doors.next_page(wanted))
    doors.set_session(response, request, session)
    return response


async def sign_out(visit: Visit) -> Response:
    """POST /logout"""
    session = visit.access.session
    if session is not None:
        await visit.site.engine.write(lambda tx: signins.end(tx, session, visit.now))
    response = visit.done("Signed out", href="/login")
    doors.clear_session(response)
    return response


def _form(
    request: Request,
    *,
    error: str = "",
    status: int = 200,
    link: str = "",
    wanted: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    context = {
        "error": error,
        "link": link,
        "next": doors.next_page(wanted if wanted is not None else request.query_params.get("next")),
        "is_secure": doors.is_secure(request),
        "look_of": preferences.look(request),
    }
    return rendering.send(rendering.page("login.html", context), status=status, headers=headers)
