"""The ASGI application: routes, and errors as the wire has them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from outlast.server import cors, openapi
from outlast.server.api import (
    alerts,
    auth,
    batch_items,
    batches,
    bulk,
    deployments,
    env_vars,
    errors,
    idempotency,
    limits,
    metrics,
    own,
    packets,
    queues,
    run_list,
    runs,
    schedules,
    tasks,
    tokens,
    trace,
    workers,
)
from outlast.server.context import CALLER, LIMITS, Context, answer, of
from outlast.server.payload_store import StoreFailed
from outlast.server.prefix import below
from outlast.server.problem import Problem, respond
from outlast.server.realtime import routes as realtime
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.server")
Handler = Callable[[Request], Awaitable[Response]]
MACHINES = ("/api", "/realtime", "/healthz", "/readyz", "/metrics")  # addresses no person opens
Table = list[tuple[str, str, Handler]]  # method, path, handler


class App(Starlette):
    """Starlette without its middleware: endpoints answer for their own errors, which costs each request half as much."""

    def build_middleware_stack(self) -> ASGIApp:
        root: str = self.state.root

        async def stack(scope: Scope, receive: Receive, send: Send) -> None:
            if root and scope["type"] in ("http", "websocket"):
                scope = below(root, scope)
            try:
                await self.router(scope, receive, send)
            except HTTPException as error:  # no such route, or not this method
                await self._lost(scope, error)(scope, receive, send)

        return stack

    def _lost(self, scope: Scope, error: HTTPException) -> ASGIApp:
        page: ASGIApp | None = self.state.lost
        is_page = scope["type"] == "http" and error.status_code == 404 and not scope["path"].startswith(MACHINES)
        return page if page is not None and is_page else _explain(scope["path"], error)


class Endpoint:
    """A handler as an ASGI app: its errors become answers here, before anything was sent. `public`: browsers of any origin may call it."""

    def __init__(self, handler: Handler, *, public: bool = False, topic: str | None = None) -> None:
        self._handler = handler
        self._public = public
        self._topic = topic  # of the pages that show what it changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            if "\x00" in scope["path"]:
                raise HTTPException(404)  # no id of ours, and PostgreSQL cannot even be asked for it
            response = cors.preflight(request) if scope["method"] == "OPTIONS" else await self._handler(request)
        except Exception as error:
            response = _explain(scope["path"], error)
        if self._topic is not None and response.status_code < 300 and (caller := scope.get(CALLER)) is not None:
            of(request).engine.publish(caller.env.id, self._topic)
        for name, value in scope.get(LIMITS, {}).items():
            response.headers.setdefault(name, value)  # a refusal has its own: of the limit that was reached
        if self._public and "origin" in request.headers:
            cors.open_to_browsers(response)
        await response(scope, receive, send)


def create_app(
    context: Context,
    *,
    routes: Sequence[BaseRoute] = (),
    pages: Sequence[BaseRoute] = (),
    lost: ASGIApp | None = None,
) -> App:
    """The app over an engine and what goes with it; `lost` answers for pages there are none of."""
    # the busiest first: routes are tried in order
    app = App(
        routes=[
            *public_routes(_TRIGGER),
            *routes,
            *public_routes(_PUBLIC),
            *_routes(_API),
            *public_routes(realtime.TABLE),
            *_routes(realtime.WRITERS),
            *_routes(_DESCRIPTION),
            *pages,
        ]
    )
    app.state.lost = lost
    app.state.root = context.root
    app.state.context = context
    return app


def _routes(table: Table) -> list[BaseRoute]:
    return [Route(path, Endpoint(handler, topic=_topic(method, path)), methods=[method]) for method, path, handler in table]


# what is no run changes without a word in the outbox: pages hear of it by these
TOPICS = {
    "queues": "queues", "pause": "queues", "resume": "queues", "schedules": "schedules", "tokens": "tokens", "bulk-actions": "bulk",
    "alerts": "alerts", "errors": "errors", "workers": "workers", "envvars": "env-vars",
}  # fmt: skip


def _topic(method: str, path: str) -> str | None:
    return None if method == "GET" else next((TOPICS[part] for part in path.split("/") if part in TOPICS), None)


def public_routes(table: Table) -> list[BaseRoute]:
    """Routes that take public tokens: with CORS, also in their errors, and answers to preflights."""
    found: list[BaseRoute] = [
        Route(path, Endpoint(handler, public=True, topic=_topic(method, path)), methods=[method]) for method, path, handler in table
    ]
    preflights = [
        Route(path, Endpoint(_no_handler, public=True), methods=["OPTIONS"]) for path in dict.fromkeys(path for _, path, _ in table)
    ]
    return [*found, *preflights]


async def _no_handler(_: Request) -> Response:
    raise HTTPException(405)


def _explain(path: str, error: Exception) -> Response:
    """What a client is told of an error; what it is not told goes to the log."""
    request_id = secrets.token_hex(8)
    if isinstance(error, HTTPException):
        text = {404: "Not found", 405: "Method not allowed"}.get(error.status_code, str(error.detail))
        error = Problem(error.status_code, text, headers=dict(error.headers or {}))
    elif isinstance(error, DatabaseError):
        log.error("the database did not answer", extra={"path": path, "error": str(error)})
        error = Problem(503, "the database cannot be reached, or is full: try again", retry=True, headers={"retry-after": "1"})
    elif isinstance(error, StoreFailed):
        log.error("the payload store did not answer", extra={"path": path, "error": str(error)})
        error = Problem(503, "the payload store cannot be used: try again", retry=True, headers={"retry-after": "1"})
    elif not isinstance(error, Problem):
        log.error("request failed", extra={"path": path, "request_id": request_id}, exc_info=error)
        error = Problem(500, f"Internal server error ({request_id})", retry=False)
    return respond(path, error, request_id)


async def _healthy(_: Request) -> Response:
    return answer({"ok": True})


async def _ready(request: Request) -> Response:
    await of(request).engine.read(lambda tx: tx.all("SELECT 1"))
    return answer({"ok": True})


_TRIGGER: Table = [("POST", "/api/v1/tasks/{task}/trigger", tasks.trigger)]
_PUBLIC: Table = [  # the scopes they need are checked by their handlers
    ("GET", "/api/v3/runs/{run}", runs.retrieve),
    ("GET", "/api/v1/runs", run_list.listing),
    ("GET", "/api/v1/projects/{ref}/runs", run_list.listing),
    ("POST", "/api/v2/runs/{run}/cancel", runs.cancel),
    ("POST", "/api/v1/idempotencyKeys/{key}/reset", idempotency.reset),
    ("POST", "/api/v3/batches", batch_items.create),
    ("POST", "/api/v3/batches/{batch}/items", batch_items.items),
    ("GET", "/api/v2/batches/{batch}", batches.retrieve),
    ("GET", "/api/v1/batches/{batch}", batches.retrieve),
    ("POST", "/api/v1/waitpoints/tokens/{token}/complete", tokens.complete),
    ("GET", "/api/v1/runs/{run}/packets/{field}", packets.locate_field),
    ("GET", "/api/v1/packets/{name:path}", packets.locate),
    ("PUT", "/api/outlast/v1/packets/{what:path}", packets.upload),
    ("GET", "/api/outlast/v1/packets/{what:path}", packets.download),
    ("GET", "/api/outlast/v1/runs/{run}/result", own.wait_for_result),
]
_API: Table = [
    ("POST", "/api/v1/runs/{run}/replay", runs.replay),
    ("POST", "/api/v1/runs/{run}/reschedule", runs.reschedule),
    ("POST", "/api/v1/runs/{run}/tags", runs.tags),
    ("GET", "/api/v1/runs/{run}/result", runs.result),
    ("GET", "/api/v1/runs/{run}/trace", trace.trace),
    ("GET", "/api/v1/runs/{run}/events", trace.listing),
    ("GET", "/api/v1/runs/{run}/spans/{span}", trace.span),
    ("GET", "/api/v1/deployments", deployments.listing),
    ("GET", "/api/v1/deployments/{deployment}", deployments.retrieve),
    ("GET", "/api/v1/runs/{run}/metadata", runs.metadata),
    ("PUT", "/api/v1/runs/{run}/metadata", runs.change_metadata),
    ("POST", "/api/v2/tasks/batch", tasks.batch_v2),
    ("POST", "/api/v1/tasks/batch", tasks.batch_v1),
    ("POST", "/api/v1/tasks/{task}/batch", tasks.batch_v1),
    ("GET", "/api/v1/batches/{batch}/results", batches.results),
    ("POST", "/api/v1/waitpoints/tokens", tokens.create),
    ("POST", "/api/v1/runs/{run}/input-streams/wait", tokens.wait_for_input),
    ("GET", "/api/v1/waitpoints/tokens", tokens.listing),
    ("GET", "/api/v1/waitpoints/tokens/{token}", tokens.retrieve),
    ("POST", "/api/v1/waitpoints/tokens/{token}/callback/{secret}", tokens.callback),
    ("GET", "/api/v1/projects/{ref}/envvars/{slug}", env_vars.listing),
    ("POST", "/api/v1/projects/{ref}/envvars/{slug}", env_vars.create),
    ("POST", "/api/v1/projects/{ref}/envvars/{slug}/import", env_vars.import_many),
    ("GET", "/api/v1/projects/{ref}/envvars/{slug}/{name}", env_vars.retrieve),
    ("PUT", "/api/v1/projects/{ref}/envvars/{slug}/{name}", env_vars.update),
    ("DELETE", "/api/v1/projects/{ref}/envvars/{slug}/{name}", env_vars.delete),
    ("GET", "/api/outlast/v1/limits", limits.listing),
    ("GET", "/api/outlast/v1/alerts", alerts.listing),
    ("POST", "/api/outlast/v1/alerts", alerts.create),
    ("GET", "/api/outlast/v1/alerts/{alert}", alerts.retrieve),
    ("PUT", "/api/outlast/v1/alerts/{alert}", alerts.update),
    ("DELETE", "/api/outlast/v1/alerts/{alert}", alerts.delete),
    ("GET", "/api/outlast/v1/alerts/{alert}/deliveries", alerts.deliveries),
    ("POST", "/api/outlast/v1/alerts/{alert}/test", alerts.try_out),
    ("GET", "/api/outlast/v1/errors", errors.listing),
    ("POST", "/api/outlast/v1/errors/{error}", errors.decide),
    ("GET", "/api/outlast/v1/workers", workers.listing),
    ("POST", "/api/outlast/v1/workers/{worker}/drain", workers.drain),
    ("POST", "/api/v1/bulk-actions", bulk.create),
    ("GET", "/api/v1/bulk-actions", bulk.listing),
    ("GET", "/api/v1/bulk-actions/{bulk}", bulk.retrieve),
    ("POST", "/api/v1/bulk-actions/{bulk}/abort", bulk.abort),
    ("POST", "/api/outlast/v1/bulk-actions/{bulk}/undo", bulk.undo),
    ("POST", "/api/v1/schedules", schedules.create),
    ("GET", "/api/v1/schedules", schedules.listing),
    ("GET", "/api/v1/schedules/{schedule}", schedules.retrieve),
    ("PUT", "/api/v1/schedules/{schedule}", schedules.update),
    ("DELETE", "/api/v1/schedules/{schedule}", schedules.delete),
    ("POST", "/api/v1/schedules/{schedule}/activate", schedules.activate),
    ("POST", "/api/v1/schedules/{schedule}/deactivate", schedules.deactivate),
    ("GET", "/api/v1/timezones", schedules.timezones),
    ("POST", "/api/outlast/v1/schedules/preview", schedules.preview),
    ("GET", "/api/outlast/v1/schedules/{schedule}/ticks", schedules.ticks),
    ("GET", "/api/outlast/v1/schedules/{schedule}/upcoming", schedules.upcoming),
    ("POST", "/api/outlast/v1/schedules/{schedule}/backfill", schedules.backfill),
    ("GET", "/api/v1/queues", queues.listing),
    ("GET", "/api/v1/queues/{queue}", queues.retrieve),
    ("GET", "/api/v1/queues/{queue}/metrics", queues.metrics),
    ("POST", "/api/v1/queues/{queue}/pause", queues.pause),
    ("POST", "/api/v1/queues/{queue}/concurrency/override", queues.override),
    ("POST", "/api/v1/queues/{queue}/concurrency/reset", queues.reset),
    ("POST", "/api/v1/projects/{ref}/{env}/pause", queues.pause_environment),
    ("POST", "/api/v1/projects/{ref}/{env}/resume", queues.pause_environment),
    ("POST", "/api/v1/auth/jwt/claims", auth.claims),
    ("POST", "/api/v1/auth/public-tokens", auth.public_token),
    ("POST", "/api/v1/auth/jwt", auth.jwt),
    ("PUT", "/api/v2/packets/{name:path}", packets.prepare),
    ("GET", "/api/v1/whoami", own.whoami),
    ("GET", "/api/outlast/v1/whoami", own.whoami),
    ("GET", "/api/outlast/v1/batches/{batch}/outcomes", batches.outcomes),
    ("GET", "/api/outlast/v1/runs/{run}/logs", own.logs),
    ("GET", "/api/outlast/v1/runs/{run}/history", own.history),
    ("GET", "/metrics", metrics.show),
    ("GET", "/healthz", _healthy),
    ("GET", "/readyz", _ready),
]
_ALL: Table = [*_TRIGGER, *_PUBLIC, *_API, *realtime.TABLE, *realtime.WRITERS]
_DESCRIPTION: Table = [("GET", "/api/openapi.json", openapi.document(_ALL)), ("GET", "/api/docs", openapi.page(_ALL))]
