"""The dashboard: its addresses, and what stands between a browser and a page."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from outlast.server import body as bodies
from outlast.server.context import Context
from outlast.server.dashboard import access as doors
from outlast.server.dashboard import assets, login, preferences, rendering, stream
from outlast.server.dashboard.access import Access, Gate
from outlast.server.dashboard.changes import Changes
from outlast.server.dashboard.charts import Shelf
from outlast.server.dashboard.pages import ACTS, PAGES
from outlast.server.dashboard.shared import Drawn, is_block
from outlast.server.dashboard.twins import TWINS
from outlast.server.dashboard.visit import Visit
from outlast.server.prefix import ROOT
from outlast.server.problem import Problem
from outlast.store import catalog
from outlast.store.catalog import Environment
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.server")

ENV_COOKIE = "outlast_env"
MAX_ACT_BYTES = 4 * 1024 * 1024  # a payload of 3 MB, and what JSON adds to it
Page = Callable[[Visit], Awaitable[Response]]


class Site:
    """One per server."""

    def __init__(self, context: Context, *, is_open: bool = False) -> None:
        self.context = context
        self.engine = engine = context.engine
        self.forget_keys = context.auth.forget
        self.gate = Gate(engine, is_open)
        self.changes = Changes(engine, context.feed)
        self.shelf = Shelf()
        self.drawn = Drawn()

    def routes(self) -> list[BaseRoute]:
        found: list[BaseRoute] = [
            Route("/static/{version}/{name}", assets.serve, methods=["GET"]),
            Route("/login", _Open(self, login.show), methods=["GET"]),
            Route("/login", _Open(self, login.sign_in), methods=["POST"]),
            Route("/login/{link}", _Open(self, login.show), methods=["GET"]),
            Route("/ui/events", _Door(self, stream.events), methods=["GET"]),
            Route("/ui/env/{slug}", _Door(self, choose_environment), methods=["GET"]),
            Route("/ui/preferences", _Door(self, preferences.remember, acts=True, viewers=True), methods=["POST"]),
            Route("/logout", _Door(self, login.sign_out, acts=True, viewers=True), methods=["POST"]),
        ]
        found += [Route(path, _Door(self, page), methods=["GET"]) for path, page in [*TWINS, *PAGES]]
        found += [Route(path, _Door(self, act, acts=True), methods=["POST"]) for path, act in ACTS]
        return found

    async def visit(self, request: Request, access: Access) -> Visit:
        """The environment is the key's; or the one the browser remembers, or the first."""
        envs: list[Environment] = await self.engine.read(catalog.environments)
        if access.env_id is not None:
            envs = [env for env in envs if env.id == access.env_id]
        slug = request.cookies.get(ENV_COOKIE)
        return Visit(request, self, access, next((env for env in envs if env.slug == slug), envs[0]), envs)

    async def lost_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        await (await self.lost(request))(scope, receive, send)

    async def lost(self, request: Request) -> Response:
        """No such page: the same for what is missing and for what is another environment's."""
        access = await self.gate.access(request)
        if access is None:
            return _to_login(request)
        visit = await self.visit(request, access)
        return visit.page("lost.html", status=404)


class _Open:
    """A page anybody may see."""

    def __init__(self, site: Site, page: Callable[[Site, Request], Awaitable[Response]]) -> None:
        self._site, self._page = site, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._page(self._site, request)
        except Exception as error:
            response = explain(request, error)
        await response(scope, receive, send)


class _Door:
    """A page or an act for those who are signed in. `viewers`: an act that changes nothing but the visitor's own view."""

    def __init__(self, site: Site, page: Page, *, acts: bool = False, viewers: bool = False) -> None:
        self._site, self._page, self._acts, self._viewers = site, page, acts, viewers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request)
        except Exception as error:
            response = await self._site.lost(request) if _is_lost(request, error) else explain(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        access = await self._site.gate.access(request)
        if access is None:
            if _is_program(request):
                raise Problem(401, "you are signed out: reload the page")
            return _to_login(request)
        visit = await self._site.visit(request, access)
        if self._acts:
            doors.check_write(request, access, viewers=self._viewers)
            body = await bodies.read_object(request, limit=MAX_ACT_BYTES)
            visit = Visit(request, self._site, access, visit.env, visit.envs, body)
        if is_block(request):
            return await self._site.drawn.get(visit, self._page)
        response = await self._page(visit)
        if self._acts:
            self._site.changes.touch(visit.env.id)
        return response


def _is_lost(request: Request, error: Exception) -> bool:
    return isinstance(error, Problem) and error.status == 404 and (not _is_program(request) or is_block(request))


def _is_program(request: Request) -> bool:
    """Whether a script reads the answer, ours or somebody else's, and not a person."""
    is_stream = request.headers.get("accept") == "text/event-stream"
    return request.method != "GET" or is_block(request) or is_stream or request.url.path.endswith(".json")


def _to_login(request: Request) -> Response:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    target = ROOT.get() + "/login"
    if wanted not in ("/", "/login"):
        from urllib.parse import quote

        target += "?next=" + quote(wanted, safe="")
    return rendering.redirect(target)


def explain(request: Request, error: Exception) -> Response:
    """What the browser is told: a line for acts and live blocks, a page otherwise."""
    request_id = secrets.token_hex(8)
    if isinstance(error, DatabaseError):
        log.error("the database did not answer", extra={"path": request.url.path, "error": str(error)})
        error = Problem(503, "The database cannot be reached, or is full. Nothing was changed.")
    elif not isinstance(error, Problem):
        log.error("page failed", extra={"path": request.url.path, "request_id": request_id}, exc_info=error)
        error = Problem(500, "Something went wrong here. The log has the details under this number.")
    if _is_program(request):
        param = error.param.rpartition(".")[2] if error.param and error.param.startswith("options.") else error.param
        told = {"error": error.message, "param": param, "request_id": request_id}
        return Response(msgspec.json.encode(told), error.status, {**error.headers, "cache-control": "no-store"}, "application/json")
    text = rendering.page("error.html", {"problem": error, "request_id": request_id})
    return rendering.send(text, status=error.status, headers=error.headers)


async def choose_environment(visit: Visit) -> Response:
    """GET /ui/env/{slug}: a preference of this browser, nothing else."""
    slug = visit.request.path_params["slug"]
    if slug not in {env.slug for env in visit.envs}:
        raise Problem(404, "no such environment")
    response = rendering.redirect(visit.path(doors.next_page(visit.query.get("next"))))
    response.set_cookie(ENV_COOKIE, slug, max_age=31_536_000, samesite="lax", httponly=True)
    return response
