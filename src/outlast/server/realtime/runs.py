"""Realtime runs as Trigger.dev's clients subscribe to them: one run, tags, a batch."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from outlast.model.duration import parse_duration
from outlast.model.limits import MAX_TAG_CHARS, MAX_TAGS
from outlast.server.api.runs import found, not_found
from outlast.server.auth import Caller
from outlast.server.context import of
from outlast.server.problem import Problem, invalid
from outlast.server.realtime import shapes, state
from outlast.server.realtime.columns import COLUMNS
from outlast.server.realtime.limits import limited
from outlast.server.realtime.shapes import Poll, Shape
from outlast.server.realtime.state import Pair
from outlast.server.scopes import allow
from outlast.store import batches, subscribed
from outlast.store.database import Connection

WINDOW = "24h"  # runs made longer before a subscription began do not belong to it
ROWS = 1_000  # runs a subscription begins with, the newest
ROWS_BYTES = 64 * 1024 * 1024  # and what they may hold together: the rest is left out
FOREVER_MS = 10**15


async def one(request: Request) -> Response:
    """GET /realtime/v1/runs/{run}"""
    caller = await of(request).caller(request, public=True)
    run_id = request.path_params["run"]
    if len(run_id) >= 100:
        raise not_found()
    if caller.token is not None and not allow(caller.token.scopes, "read", [("runs", run_id)]):
        await found(request, "read")  # a right on its task, tags or batch: those must be looked up
    shape = Shape(env_id=caller.env.id, run_id=run_id, skipped=_skipped(request, caller))
    with limited(request, caller.env.id, _token(caller)):
        return await shapes.one_run(Poll(request), shape)


async def tagged(request: Request) -> Response:
    """GET /realtime/v1/runs?tags=a,b&createdAt=24h: runs that have all these tags."""
    caller = await of(request).caller(request, public=True)
    tags = _tags(request)
    caller.need("read", ("runs", None), ("tags", None), *(("tags", tag) for tag in tags))
    poll, engine = Poll(request), of(request).engine
    try:
        window = parse_duration(request.query_params.get("createdAt", WINDOW))
    except ValueError as error:
        raise invalid(f"createdAt: {error}", "createdAt") from error
    since = poll.since(engine.clock.now(), min(window, FOREVER_MS))
    shape = Shape(env_id=caller.env.id, tags=tags, skipped=_skipped(request, caller), since=since)

    async def snapshot() -> Sequence[Pair]:
        return await engine.read(lambda tx: _pairs(tx, subscribed.by_tags(tx, caller.env.id, tags, since, ROWS)))

    with limited(request, caller.env.id, _token(caller)):
        return await shapes.many_runs(poll, shape, snapshot)


async def batch(request: Request) -> Response:
    """GET /realtime/v1/batches/{batch}"""
    caller = await of(request).caller(request, public=True)
    batch_id, engine = request.path_params["batch"], of(request).engine
    caller.need("read", ("batch", batch_id), ("runs", None))
    known = len(batch_id) < 100 and "\x00" not in batch_id
    if not known or await engine.read(lambda tx: batches.read(tx, caller.env.id, batch_id)) is None:
        raise Problem(404, "Batch not found")
    shape = Shape(env_id=caller.env.id, batch_id=batch_id, skipped=_skipped(request, caller))

    async def snapshot() -> Sequence[Pair]:
        return await engine.read(lambda tx: _pairs(tx, subscribed.by_batch(tx, batch_id, ROWS)))

    with limited(request, caller.env.id, _token(caller)):
        return await shapes.many_runs(Poll(request), shape, snapshot)


def _pairs(tx: Connection, ids: Sequence[str]) -> list[Pair]:
    """In the order of the ids."""
    found: list[Pair] = []
    size = 0
    for start in range(0, len(ids), state.READ):
        some = state.pairs(tx, ids[start : start + state.READ])
        for run_id in ids[start : start + state.READ]:
            if run_id in some:
                found.append(some[run_id])
                data = some[run_id][1]
                size += len(data.payload or "") + len(data.output or "") + len(data.metadata or "")
        if size > ROWS_BYTES:
            break
    return found


def _tags(request: Request) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag for tag in request.query_params.get("tags", "").split(",") if tag))
    if len(tags) > MAX_TAGS or any(len(tag) > MAX_TAG_CHARS or "\x00" in tag for tag in tags):
        raise invalid(f"tags: up to {MAX_TAGS} tags of {MAX_TAG_CHARS} characters", "tags")
    return tags


def _skipped(request: Request, caller: Caller) -> frozenset[str]:
    """What the client does not want, and what its token does not show."""
    wanted = frozenset(request.query_params.get("skipColumns", "").split(","))
    return (wanted | frozenset(caller.token.skip_columns if caller.token else ())) & COLUMNS.keys()


def _token(caller: Caller) -> str | None:
    return caller.token.id if caller.token else None
