"""Alert channels: who is told of failed and finished runs, slow queues and new versions; and what was delivered to them."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from outlast.model.alert import CHANNEL_TYPES, EVENT_TYPES, AlertChannel, Delivery
from outlast.model.limits import MAX_ALERT_CHANNELS, TASK_ID
from outlast.server import body as bodies
from outlast.server.alerts.alerts import purpose
from outlast.server.alerts.outbound import Unsafe, parts, resolve
from outlast.server.auth import Caller
from outlast.server.context import Context, answer, of, own_row
from outlast.server.problem import Problem
from outlast.server.push import iso
from outlast.store import alerts as store
from outlast.store import outbox


class Body(msgspec.Struct, rename="camel"):
    name: str
    type: str
    target: str
    events: list[str]
    tasks: list[str] = []
    enabled: bool = True
    latency_seconds: int = 300


_body = msgspec.json.Decoder(Body)
MAX_BODY = 64 * 1024


def _wire(c: AlertChannel) -> dict[str, Any]:
    return {
        "id": c.id, "name": c.name, "type": c.type, "target": c.target, "events": c.events, "tasks": c.tasks, "enabled": c.enabled,
        "latencySeconds": c.latency_seconds, "createdAt": iso(c.created_at),
    }  # fmt: skip


def _delivery(d: Delivery) -> dict[str, Any]:
    return {
        "id": d.id, "event": d.event, "ref": d.ref, "status": d.status, "tries": d.tries, "nextAt": iso(d.next_at), "grouped": d.grouped,
        "createdAt": iso(d.created_at), "error": d.error,
    }  # fmt: skip


async def listing(request: Request) -> Response:
    """GET /api/outlast/v1/alerts"""
    caller = await of(request).caller(request)
    found = await of(request).engine.read(lambda tx: store.listed(tx, caller.env.id))
    return answer({"data": [_wire(channel) for channel in found]})


async def create(request: Request) -> Response:
    """POST /api/outlast/v1/alerts: the secret that signs webhooks is in this answer, and never again."""
    context = of(request)
    caller = await context.caller(request)
    made, secret = await add(context, caller.env.id, await _read(request))
    return answer({**_wire(made), "secret": secret}, 201)


async def add(context: Context, env_id: int, body: Body) -> tuple[AlertChannel, str]:
    """A new channel and the secret that signs its webhooks.

    Raises:
        Problem: 422.
    """
    await check(context, body)
    now = context.engine.clock.now()
    id_, secret = context.engine.new_id("alert", now), f"whsec_{secrets.token_urlsafe(32)}"
    sealed = context.vault.seal(purpose(id_), secret)
    made = AlertChannel(
        id=id_, env_id=env_id, name=body.name, type=body.type, target=body.target, secret=sealed, events=body.events,  # pyright: ignore[reportArgumentType] - checked
        tasks=body.tasks, enabled=body.enabled, latency_seconds=body.latency_seconds, created_at=now,
    )  # fmt: skip
    if len(await context.engine.read(lambda tx: store.listed(tx, env_id))) >= MAX_ALERT_CHANNELS:
        raise Problem(422, f"an environment has at most {MAX_ALERT_CHANNELS} alert channels", code="limit_exceeded")
    await context.engine.write(lambda tx: store.add(tx, made, outbox.newest(tx)))
    return made, secret


async def _read(request: Request) -> Body:
    bodies.check_type(request)
    return bodies.decode(await bodies.read(request, MAX_BODY), _body)


async def check(context: Context, body: Body) -> None:
    """Raises:
    Problem: 422, naming the field.
    """
    if not 1 <= len(body.name) <= 128 or "\x00" in body.name:
        raise _refused("name must have 1 to 128 characters", "name")
    if body.type not in CHANNEL_TYPES:
        raise _refused(f"type must be one of {', '.join(CHANNEL_TYPES)}", "type")
    if "deployment.failed" in body.events:
        raise _refused("deployment.failed comes with deploys: a version that a worker registers has not failed", "events")
    if not body.events or any(event not in EVENT_TYPES for event in body.events):
        raise _refused(f"events must be of {', '.join(EVENT_TYPES)}", "events")
    if len(body.tasks) > 100 or any(not TASK_ID.fullmatch(task) for task in body.tasks):
        raise _refused("tasks must be at most 100 task ids; none means all", "tasks")
    if not 1 <= body.latency_seconds <= 86_400:
        raise _refused("latencySeconds must be 1 to 86400", "latencySeconds")
    await _check_target(context, body)


def _refused(message: str, param: str, code: str = "validation_error") -> Problem:
    return Problem(422, message, code=code, param=param)


async def _check_target(context: Context, body: Body) -> None:
    if body.type == "email":
        local, _, domain = body.target.partition("@")
        printable = body.target.isascii() and body.target.isprintable() and " " not in body.target
        if not local or "." not in domain or "@" in domain or not printable or len(body.target) > 254 or "," in body.target:
            raise _refused("target must be one mail address", "target")
        return
    try:
        parts(body.target)
        await resolve(body.target, context.alerts.ways.allowed)
    except Unsafe as error:
        raise _refused(str(error), "target", "unsafe_url") from error
    except (OSError, UnicodeError):
        return  # a name that has no address now may have one later; it is looked at again before each delivery


async def _found(request: Request) -> tuple[AlertChannel, Caller]:
    return await own_row(request, "alert", lambda tx, env_id, id_: store.one(tx, id_, env_id), "Alert channel")


async def retrieve(request: Request) -> Response:
    """GET /api/outlast/v1/alerts/{alert}"""
    found, _ = await _found(request)
    return answer(_wire(found))


async def update(request: Request) -> Response:
    """PUT /api/outlast/v1/alerts/{alert}: what is not given stays as it is."""
    found, _ = await _found(request)
    given = {**_wire(found), **await bodies.read_object(request, limit=MAX_BODY)}
    body = bodies.decode(msgspec.json.encode(given), _body)
    await check(of(request), body)
    new = replace(
        found, name=body.name, type=body.type, target=body.target, events=body.events, tasks=body.tasks, enabled=body.enabled,  # pyright: ignore[reportArgumentType] - checked
        latency_seconds=body.latency_seconds,
    )  # fmt: skip
    await of(request).engine.write(lambda tx: store.save(tx, new))
    return answer(_wire(new))


async def delete(request: Request) -> Response:
    """DELETE /api/outlast/v1/alerts/{alert}"""
    found, caller = await _found(request)
    await of(request).engine.write(lambda tx: store.delete(tx, caller.env.id, found.id))
    return answer({"id": found.id})


async def deliveries(request: Request) -> Response:
    """GET /api/outlast/v1/alerts/{alert}/deliveries: the newest hundred."""
    found, _ = await _found(request)
    rows = await of(request).engine.read(lambda tx: store.deliveries(tx, found.id, 100))
    return answer({"data": [_delivery(d) for d in rows]})


async def try_out(request: Request) -> Response:
    """POST /api/outlast/v1/alerts/{alert}/test: sends a test now."""
    found, _ = await _found(request)
    await tried(of(request), found)
    return answer({"id": found.id})


async def tried(context: Context, channel: AlertChannel) -> None:
    """
    Raises:
        Problem: 422, it was not taken; with the reason.
    """
    try:
        await context.alerts.try_out(channel)
    except Exception as error:  # whatever the network, the receiver or a library said
        raise Problem(422, f"it was not delivered: {type(error).__name__}: {error}"[:500], code="not_delivered") from error
