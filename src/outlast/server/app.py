"""The ASGI application: routes, and errors as the wire has them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from outlast.engine.engine import Engine
from outlast.server.api import batches, own, queues, runs, tasks
from outlast.server.context import Context, answer, of
from outlast.server.problem import Problem, respond
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.server")


def create_app(engine: Engine, *, unknown_tasks: str = "park", routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The app over an engine. `unknown_tasks` is park (wait for a version) or refuse (404)."""
    app = Starlette(
        # the busiest first: routes are tried in order
        routes=[*_TRIGGER, *routes, *_API],
        exception_handlers={
            Problem: _problem,  # pyright: ignore[reportArgumentType]
            DatabaseError: _database_error,  # pyright: ignore[reportArgumentType]
            HTTPException: _http_error,  # pyright: ignore[reportArgumentType]
            Exception: _unexpected,
        },
    )
    app.state.context = Context(engine, unknown_tasks=unknown_tasks)
    return app


async def _problem(request: Request, problem: Problem) -> Response:
    return respond(request.url.path, problem, secrets.token_hex(8))


async def _http_error(request: Request, error: HTTPException) -> Response:
    text = {404: "Not found", 405: "Method not allowed"}.get(error.status_code, str(error.detail))
    return respond(request.url.path, Problem(error.status_code, text, headers=dict(error.headers or {})), secrets.token_hex(8))


async def _database_error(request: Request, error: DatabaseError) -> Response:
    log.error("the database did not answer", extra={"path": request.url.path, "error": str(error)})
    problem = Problem(503, "the database cannot be reached, or is full: try again", retry=True, headers={"retry-after": "1"})
    return respond(request.url.path, problem, secrets.token_hex(8))


async def _unexpected(request: Request, error: Exception) -> Response:
    request_id = secrets.token_hex(8)
    log.error("request failed", extra={"path": request.url.path, "request_id": request_id}, exc_info=error)
    return respond(request.url.path, Problem(500, f"Internal server error ({request_id})", retry=False), request_id)


async def _healthy(_: Request) -> Response:
    return answer({"ok": True})


async def _ready(request: Request) -> Response:
    await of(request).engine.read(lambda tx: tx.all("SELECT 1"))
    return answer({"ok": True})


async def _claims(request: Request) -> Response:
    """POST /api/v1/auth/jwt/claims"""
    caller = await of(request).caller(request)
    return answer({"sub": str(caller.env.id), "pub": True})


_TRIGGER = [Route("/api/v1/tasks/{task}/trigger", tasks.trigger, methods=["POST"])]
_API = [
    Route("/api/v3/runs/{run}", runs.retrieve, methods=["GET"]),
    Route("/api/v1/runs", runs.listing, methods=["GET"]),
    Route("/api/v2/runs/{run}/cancel", runs.cancel, methods=["POST"]),
    Route("/api/v1/runs/{run}/replay", runs.replay, methods=["POST"]),
    Route("/api/v1/runs/{run}/reschedule", runs.reschedule, methods=["POST"]),
    Route("/api/v1/runs/{run}/tags", runs.tags, methods=["POST"]),
    Route("/api/v1/runs/{run}/result", runs.result, methods=["GET"]),
    Route("/api/v1/runs/{run}/metadata", runs.metadata, methods=["GET"]),
    Route("/api/v2/tasks/batch", tasks.batch_v2, methods=["POST"]),
    Route("/api/v1/tasks/batch", tasks.batch_v1, methods=["POST"]),
    Route("/api/v1/tasks/{task}/batch", tasks.batch_v1, methods=["POST"]),
    Route("/api/v2/batches/{batch}", batches.retrieve, methods=["GET"]),
    Route("/api/v1/batches/{batch}", batches.retrieve, methods=["GET"]),
    Route("/api/v1/batches/{batch}/results", batches.results, methods=["GET"]),
    Route("/api/v1/queues", queues.listing, methods=["GET"]),
    Route("/api/v1/queues/{queue}", queues.retrieve, methods=["GET"]),
    Route("/api/v1/queues/{queue}/pause", queues.pause, methods=["POST"]),
    Route("/api/v1/queues/{queue}/concurrency/override", queues.override, methods=["POST"]),
    Route("/api/v1/queues/{queue}/concurrency/reset", queues.reset, methods=["POST"]),
    Route("/api/v1/projects/{ref}/{env}/pause", queues.pause_environment, methods=["POST"]),
    Route("/api/v1/projects/{ref}/{env}/resume", queues.pause_environment, methods=["POST"]),
    Route("/api/v1/auth/jwt/claims", _claims, methods=["POST"]),
    Route("/api/v1/whoami", own.whoami, methods=["GET"]),
    Route("/api/outlast/v1/whoami", own.whoami, methods=["GET"]),
    Route("/api/outlast/v1/runs/{run}/result", own.wait_for_result, methods=["GET"]),
    Route("/api/outlast/v1/runs/{run}/logs", own.logs, methods=["GET"]),
    Route("/api/outlast/v1/runs/{run}/history", own.history, methods=["GET"]),
    Route("/healthz", _healthy, methods=["GET"]),
    Route("/readyz", _ready, methods=["GET"]),
]
