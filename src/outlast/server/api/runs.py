"""Runs: look at one, list many, cancel, replay, reschedule, tag."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine import control, triggers
from outlast.engine import metadata as engine_metadata
from outlast.model import payload as kinds
from outlast.model.metadata import MAX_OPS, AnyOp
from outlast.model.refusal import Refusal
from outlast.model.requests import AddTags, Cancel, ChangeMetadata, Replay, Reschedule
from outlast.model.run import Run, RunData
from outlast.server import body as bodies
from outlast.server import options as trigger_options
from outlast.server import packets, wire
from outlast.server.api.tasks import request_id, with_upload
from outlast.server.auth import Caller
from outlast.server.context import Context, accepted, answer, of
from outlast.server.problem import Problem, invalid
from outlast.server.scopes import Resource
from outlast.store import search

MAX_METADATA_REQUEST_BYTES = 1024 * 1024  # a new object, and operations


def not_found() -> Problem:
    return Problem(404, "Run not found")


async def found(request: Request, need: str | None = None) -> tuple[Run, RunData, Caller]:
    """The run of the path, in the caller's environment. With `need`, public tokens that have this right on the run are let in too.

    Raises:
        Problem: 404, 403.
    """
    context = of(request)
    caller = await context.caller(request, public=need is not None)
    run_id = request.path_params["run"]
    pair = await context.engine.read(lambda tx: search.one(tx, caller.env.id, run_id)) if len(run_id) < 100 else None
    if pair is None:
        raise not_found()
    if need is not None:
        caller.need(need, *resources(*pair) if need == "read" else (("runs", run_id), ("tasks", pair[0].task)))
    return *pair, caller


def resources(run: Run, data: RunData) -> list[Resource]:
    """What a run is to a token that may read."""
    offered: list[Resource] = [("runs", run.id), ("tasks", run.task), *(("tags", tag) for tag in data.options.tags)]
    return [*offered, ("batch", run.batch_id)] if run.batch_id is not None else offered


async def retrieve(request: Request) -> Response:
    """GET /api/v3/runs/{run}"""
    run, data, caller = await found(request, "read")
    body = await whole(request, caller, run, data)
    if caller.token is not None:  # a browser is shown how the run stands, not what it was given
        for hidden in ("payload", "output", "payloadPresignedUrl", "outputPresignedUrl"):
            body.pop(hidden, None)
    return answer(body)


async def whole(request: Request, caller: Caller, run: Run, data: RunData) -> dict[str, Any]:
    family = await of(request).engine.read(lambda tx: search.family(tx, run))
    related: dict[str, Any] = {"children": [wire.common(r, d) for r, d in family["children"]]}
    for name in ("root", "parent"):
        if family[name]:
            related[name] = wire.common(*family[name][0])
    body = wire.retrieved(run, data, related, [])
    for field, value in (("payload", data.payload), ("output", data.output)):
        if field in body and packets.is_large(value):  # the client fetches it only when it is looked at
            del body[field]
            body[f"{field}PresignedUrl"] = packets.address(
                of(request).origin(request), caller.env, "GET", packets.path_of(run.id, field), of(request).engine.clock.now()
            )
    return body


async def cancel(request: Request) -> Response:
    """POST /api/v2/runs/{run}/cancel; a run that is over stays as it is."""
    context = of(request)
    caller = await context.caller(request, public=True)
    run_id = request.path_params["run"]
    if caller.token is not None:
        await found(request, "write")
    outcome = await context.engine.call(control.cancel, Cancel(env_id=caller.env.id, run_id=run_id))
    if isinstance(outcome, Refusal) and outcome.code != "run_final":
        accepted(outcome)
    return answer({"id": run_id})


async def replay(request: Request) -> Response:
    """POST /api/v1/runs/{run}/replay, with or without overrides."""
    run, _, caller = await found(request)
    context = of(request)
    raw = await bodies.read(request)
    overrides = await _overrides(context, caller, raw, run.task) if raw.strip() not in (b"", b"{}") else {}
    item = Replay(env_id=caller.env.id, run_id=run.id, overrides=overrides, request_id=request_id(request))
    made = accepted(await context.engine.call(triggers.replay, item))
    return answer({"id": made.run_id})


async def _overrides(context: Context, caller: Caller, raw: bytes, task: str) -> dict[str, Any]:
    """The fields of a trigger that the body names."""
    body = bodies.decode(raw, _any)
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    names: dict[str, Any] = body  # pyright: ignore[reportUnknownVariableType]
    payload = msgspec.Raw(msgspec.json.encode(names.pop("payload"))) if "payload" in names else msgspec.UNSET
    if isinstance(names.get("queue"), str):
        names["queue"] = {"name": names["queue"]}
    options = trigger_options.read_options(msgspec.Raw(msgspec.json.encode(names)))
    changed = trigger_options.TriggerBody(payload)
    if options.payload_type == packets.STORED:
        changed = await with_upload(context, caller, changed, options)
    made = trigger_options.trigger(caller.env.id, task, changed, options, now=context.engine.clock.now())
    asked: dict[str, Any] = {}
    if payload is not msgspec.UNSET:
        asked |= {"payload": made.payload, "payload_type": made.payload_type}
    fields = {
        "metadata": ("metadata", made.metadata),
        "queue": ("queue", made.queue),
        "concurrencyKey": ("concurrency_key", made.concurrency_key),
        "delay": ("delay_until", made.delay_until),
        "ttl": ("ttl_ms", made.ttl_ms),
        "idempotencyKey": ("idempotency_hash", made.idempotency_hash),
        "maxAttempts": ("max_attempts", made.max_attempts),
        "maxDuration": ("max_duration", made.max_duration),
        "priority": ("priority_ms", made.priority_ms),
        "version": ("locked_version", names.get("version")),
    }
    asked |= {name: value for wire_name, (name, value) in fields.items() if wire_name in names}
    kept = {name: getattr(made.options, name) for name in ("tags", "machine", "priority") if name in names}
    return {**asked, "options": kept} if kept else asked


_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any)


async def reschedule(request: Request) -> Response:
    """POST /api/v1/runs/{run}/reschedule"""
    run, _, caller = await found(request)
    body = await bodies.read_object(request)
    delay = body.get("delay")
    if not isinstance(delay, str):
        raise invalid("delay must be a duration or an ISO date", "delay")
    context = of(request)
    due_at = trigger_options.when(delay, context.engine.clock.now())
    accepted(await context.engine.call(control.reschedule, Reschedule(env_id=caller.env.id, run_id=run.id, due_at=due_at)))
    run, data, caller = await found(request)
    return answer(await whole(request, caller, run, data))


async def tags(request: Request) -> Response:
    """POST /api/v1/runs/{run}/tags"""
    run, _, caller = await found(request)
    body = await bodies.read_object(request)
    new = trigger_options.check_tags(body.get("tags"))
    outcome = accepted(await of(request).engine.call(control.add_tags, AddTags(env_id=caller.env.id, run_id=run.id, tags=new)))
    return answer({"message": f"Successfully set {len(outcome)} tags."})


async def result(request: Request) -> Response:
    """GET /api/v1/runs/{run}/result; 404 until it is over."""
    run, data, _ = await found(request)
    if not run.is_final:
        raise Problem(404, "Run either doesn't exist or is not finished", retry=None)
    return answer(wire.result(run, data))


async def metadata(request: Request) -> Response:
    """GET /api/v1/runs/{run}/metadata"""
    _, data, _ = await found(request)
    return answer({"metadata": kinds.to_json(data.metadata, data.options.metadata_type) or {}})


class MetadataBody(msgspec.Struct, rename="camel"):
    metadata: dict[str, Any] | None = None
    operations: list[AnyOp] = []
    parent_operations: list[AnyOp] = []
    root_operations: list[AnyOp] = []


_metadata_body = msgspec.json.Decoder(MetadataBody)


async def change_metadata(request: Request) -> Response:
    """PUT /api/v1/runs/{run}/metadata: a whole new object, or operations on it, on the parent's and on the root's."""
    run, _, caller = await found(request)
    bodies.check_type(request)
    body = bodies.decode(await bodies.read(request, MAX_METADATA_REQUEST_BYTES), _metadata_body)
    every = [*body.operations, *body.parent_operations, *body.root_operations]
    if len(every) > MAX_OPS:
        raise Problem(422, f"up to {MAX_OPS} operations in one request, and these are {len(every)}", code="validation_error")
    item = ChangeMetadata(
        env_id=caller.env.id, run_id=run.id, replaced=body.metadata, ops=body.operations, parent_ops=body.parent_operations,
        root_ops=body.root_operations, request_id=request_id(request),
    )  # fmt: skip
    return answer({"metadata": accepted(await of(request).engine.call(engine_metadata.change_metadata, item))})
