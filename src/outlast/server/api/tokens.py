"""Tokens: create, list, look at, complete; and the address that completes one without a key."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine import streams, tokens
from outlast.engine.streams import INPUT
from outlast.model import limits
from outlast.model.streams import CreateInputToken
from outlast.model.token import CompleteToken, CreateToken
from outlast.server import body as bodies
from outlast.server import options, public_tokens
from outlast.server.context import accepted, answer, of
from outlast.server.problem import Problem, invalid
from outlast.server.push import iso
from outlast.server.query import cursor, cut, many, one, page_size, times
from outlast.server.sides import stream_key
from outlast.store import catalog, waitpoints
from outlast.store.catalog import Environment
from outlast.store.waitpoints import Token, TokenFilter

MAX_CALLBACK_BYTES = 512 * 1024
PUBLIC_SECONDS = 86_400
KEY_TTL_MS = 3_600_000
TIMEOUT_CODE = "TRIGGER_WAITPOINT_TIMEOUT"


class CreateBody(msgspec.Struct, rename="camel"):
    timeout: str | None = None
    idempotency_key: str | None = None
    idempotency_key_ttl: str | None = msgspec.field(default=None, name="idempotencyKeyTTL")
    tags: list[str] | str | None = None


class InputWaitBody(CreateBody):
    stream_id: str = ""
    last_seq_num: int | None = None


class CompleteBody(msgspec.Struct):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_create = msgspec.json.Decoder(CreateBody)
_input_wait = msgspec.json.Decoder(InputWaitBody)
_complete = msgspec.json.Decoder(CompleteBody)


def secret(env: Environment, token_id: str) -> str:
    """The last part of a token's address: 256 bits that only this environment's secret gives, so nothing needs to be kept."""
    return hmac.new(env.signing_secret.encode(), f"callback:{token_id}".encode(), hashlib.sha256).hexdigest()


def _url(request: Request, env: Environment, token_id: str) -> str:
    return f"{of(request).origin(request)}/api/v1/waitpoints/tokens/{token_id}/callback/{secret(env, token_id)}"


async def create(request: Request) -> Response:
    """POST /api/v1/waitpoints/tokens"""
    context = of(request)
    caller = await context.caller(request)
    bodies.check_type(request)
    raw = await bodies.read(request, 64 * 1024)
    found = bodies.decode(raw or b"{}", _create)
    now = context.engine.clock.now()
    item = _item(caller.env.id, found, now)
    made = await context.engine.call(tokens.create_token, item)
    headers = public_tokens.headers(caller.env, caller.key_id, [f"write:waitpoints:{made.token_id}"], now, PUBLIC_SECONDS)
    url = _url(request, caller.env, made.token_id)
    return answer({"id": made.token_id, "isCached": made.is_cached, "url": url}, headers=headers)


def _item(env_id: int, found: CreateBody, now: int) -> CreateToken:
    key = None if found.idempotency_key is None else options.text_field(found.idempotency_key, "idempotencyKey", limits.MAX_KEY_CHARS)
    ttl = options.duration(found.idempotency_key_ttl, "idempotencyKeyTTL") if found.idempotency_key_ttl else KEY_TTL_MS
    timeout = options.when(found.timeout, now) if found.timeout else None
    if timeout is not None and timeout <= now:
        raise invalid("timeout must be in the future", "timeout")
    return CreateToken(
        env_id=env_id,
        timeout_at=timeout,
        tags=msgspec.json.encode(options.check_tags(found.tags or [])).decode(),
        idempotency_hash=hashlib.sha256(key.encode()).hexdigest() if key else None,
        idempotency_key=key,
        idempotency_ttl_ms=ttl,
    )


async def wait_for_input(request: Request) -> Response:
    """POST /api/v1/runs/{run}/input-streams/wait: a token that the next value sent to the run completes."""
    context = of(request)
    caller = await context.caller(request)
    bodies.check_type(request)
    found = bodies.decode(await bodies.read(request, 64 * 1024), _input_wait)
    after = -1 if found.last_seq_num is None else found.last_seq_num
    if after < -1:
        raise invalid("lastSeqNum is the number of a record, from 0", "lastSeqNum")
    token = _item(caller.env.id, found, context.engine.clock.now())
    item = CreateInputToken(run_id=request.path_params["run"], key=INPUT + stream_key(found.stream_id), after=after, token=token)
    made = accepted(await context.engine.call(streams.create_input_token, item))
    return answer({"waitpointId": made.token_id, "isCached": made.is_cached})


async def listing(request: Request) -> Response:
    """GET /api/v1/waitpoints/tokens"""
    context = of(request)
    caller = await context.caller(request)
    size, f = page_size(request, default=20), _filter(request, caller.env.id, context.engine.clock.now())
    rows = await context.engine.read(lambda tx: waitpoints.page(tx, f, size + 1))
    rows, pagination = cut(rows, size, f, lambda token: token.id)
    return answer({"data": [_wire(request, caller.env, token) for token in rows], "pagination": pagination})


def _filter(request: Request, env_id: int, now: int) -> TokenFilter:
    query = request.query_params
    status = query.get("filter[status]")
    if status not in (None, "WAITING", "COMPLETED", "TIMED_OUT"):
        raise invalid("filter[status] must be WAITING, COMPLETED or TIMED_OUT", "filter[status]")
    before, after = query.get("page[before]"), query.get("page[after]")
    start, end = times(query, now, "filter[createdAt][{}]", default_ms=None)
    return TokenFilter(
        env_id=env_id,
        before=cursor(before, "waitpoint_") if before else None,
        after=cursor(after, "waitpoint_") if after and not before else None,
        status=status,
        tags=many(query, "filter[tags]"),
        key=one(query, "filter[idempotencyKey]"),
        created_from=start,
        created_to=end,
    )


async def retrieve(request: Request) -> Response:
    """GET /api/v1/waitpoints/tokens/{token}"""
    context = of(request)
    caller = await context.caller(request)
    token_id = request.path_params["token"]
    found = await context.engine.read(lambda tx: waitpoints.read(tx, caller.env.id, token_id))
    if found is None:
        raise Problem(404, "Waitpoint not found")
    wire = _wire(request, caller.env, found)
    if found.status == "TIMED_OUT":
        error = {"code": TIMEOUT_CODE, "message": f"token {found.id} was not completed in time"}
        wire |= {"output": msgspec.json.encode(error).decode(), "outputType": "application/json", "outputIsError": True}
    elif found.status == "COMPLETED":
        wire |= {"output": found.value, "outputType": "application/json", "outputIsError": False}
    return answer(wire)


async def complete(request: Request) -> Response:
    """POST /api/v1/waitpoints/tokens/{token}/complete"""
    context = of(request)
    caller = await context.caller(request, public=True)
    caller.need("write", ("waitpoints", request.path_params["token"]))
    bodies.check_type(request)
    found = bodies.decode(await bodies.read(request, limits.MAX_PAYLOAD_BYTES) or b"{}", _complete)
    value = None if found.data is msgspec.UNSET else bytes(found.data).decode()
    item = CompleteToken(token_id=request.path_params["token"], env_id=caller.env.id, value=None if value == "null" else value)
    return _completed(accepted(await context.engine.call(tokens.complete_token, item)))


def _completed(is_first: bool) -> Response:
    """The first completion wins, or its timeout; a later one is told so, and succeeds as Trigger.dev's does."""
    return answer({"success": True} if is_first else {"success": True, "code": "already_completed"})


async def callback(request: Request) -> Response:
    """POST /api/v1/waitpoints/tokens/{token}/callback/{secret}: no key; the whole body is the output."""
    context = of(request)
    token_id = request.path_params["token"]
    if "content-length" not in request.headers:
        raise Problem(411, "send a Content-Length")
    found = await context.engine.read(lambda tx: waitpoints.lock(tx, [token_id])().get(token_id))
    env = await context.engine.read(lambda tx: catalog.environment(tx, found.env_id)) if found is not None else None
    if env is None or not hmac.compare_digest(secret(env, token_id).encode(), request.path_params["secret"].encode()):
        raise Problem(401, "Invalid URL, hash does not match")
    raw = await bodies.read(request, MAX_CALLBACK_BYTES)
    if raw.strip():
        bodies.decode(raw, _any)
    item = CompleteToken(token_id=token_id, env_id=None, value=raw.decode() if raw.strip() else "{}")
    return _completed(accepted(await context.engine.call(tokens.complete_token, item)))


_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any)


def _wire(request: Request, env: Environment, t: Token) -> dict[str, Any]:
    fields = {
        "id": t.id,
        "url": _url(request, env, t.id),
        "status": t.status,
        "idempotencyKey": t.idempotency_key,
        "idempotencyKeyExpiresAt": iso(t.idempotency_expires_at),
        "timeoutAt": iso(t.timeout_at),
        "completedAfter": iso(t.timeout_at),
        "completedAt": iso(t.completed_at),
        "tags": msgspec.json.decode(t.tags),
        "createdAt": iso(t.created_at),
    }
    return {name: value for name, value in fields.items() if value is not None}
