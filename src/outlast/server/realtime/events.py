"""Plain server-sent events of a run, for any browser without a client package."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.model import payload as packets
from outlast.model.run import Run, Status
from outlast.server import wire
from outlast.server.api.runs import found
from outlast.server.context import of
from outlast.server.public_tokens import looks_like_one
from outlast.server.push import iso
from outlast.server.realtime import state
from outlast.server.realtime.feed import Feed
from outlast.server.realtime.limits import hold
from outlast.server.realtime.sse import PING, PING_SECONDS, EventStream, event
from outlast.server.realtime.state import Pair, Rows
from outlast.store.outbox import Change

REPLAYED = 1_000  # changes sent again after a break; who missed more begins with the state of now

_encode = msgspec.json.encode


async def of_run(request: Request) -> Response:
    """GET /api/outlast/v1/runs/{run}/events: the run at each of its changes, until it is over."""
    request = _with_token(request)
    run, _, caller = await found(request, "read")
    seen = _seen(request, run)
    if run.is_final and seen == run.snapshot:
        return Response(status_code=204)  # the only answer after which an EventSource does not come again
    context, env_id = of(request), caller.env.id
    release = hold(request, env_id, caller.token.id if caller.token else None)
    check = partial(context.caller, request, public=True)
    return EventStream(_changes(context.feed, context.rows, env_id, run.id, seen), release, check=check)


def _with_token(request: Request) -> Request:
    """An EventSource cannot send headers: a public token (never a key, which addresses would keep) may stand in `?token=`."""
    token = request.query_params.get("token", "")
    if "authorization" in request.headers or not looks_like_one(token) or not token.isascii():
        return request
    headers = [*request.scope["headers"], (b"authorization", b"Bearer " + token.encode())]
    return Request({**request.scope, "headers": headers}, request.receive)


def _seen(request: Request, run: Run) -> int | None:
    """The last change the client has had. What is no number of ours begins anew."""
    text = request.headers.get("last-event-id", "")
    seen = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
    return seen if seen is not None and seen <= run.snapshot else None


async def _changes(feed: Feed, rows: Rows, env_id: int, run_id: str, seen: int | None) -> AsyncGenerator[bytes]:
    async with feed.subscribe(env_id, runs=[run_id]) as subscription:
        yield b"retry: 1000\n\n"
        missed = True
        while not subscription.closed:
            changes: list[Change] = []
            if not missed:
                taken = await subscription.take(PING_SECONDS)
                changes, missed = taken.changes, taken.missed
                if not changes and not missed:
                    yield PING
                    continue
            pair = await rows.get(env_id, run_id)
            if pair is None:
                return
            if missed:
                changes, missed = await _since(rows, pair, seen), False
            for change in changes:
                if seen is None or change.n > seen:
                    seen = change.n
                    yield _event(state.at(pair, change), change)
                if change.is_final and change.n >= pair[0].snapshot:
                    return


async def _since(rows: Rows, pair: Pair, seen: int | None) -> list[Change]:
    """The changes a client has not had; only the last when it has had none."""
    run = pair[0]
    after = run.snapshot - 1 if seen is None else seen
    return await rows.changes(run.id, after, REPLAYED)


def _event(pair: Pair, change: Change) -> bytes:
    run, data = pair
    shown = wire.common(run, data)
    if run.status is Status.COMPLETED and data.output is not None:
        shown["output"] = packets.to_json(data.output, data.output_type or packets.JSON)
    if data.error is not None and run.is_final:
        shown["error"] = wire.error(data.error)
    body = {"n": change.n, "at": iso(change.at), "kind": change.kind, "status": change.status.value, "run": shown}
    return event(_encode(body), id=str(change.n))
