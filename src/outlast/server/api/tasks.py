"""Triggering: one run, or a batch of up to 1,000."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine import triggers
from outlast.model.limits import MAX_BATCH_ITEMS, MAX_BODY_BYTES, MAX_PAYLOAD_BYTES, TASK_ID
from outlast.model.refusal import Refusal
from outlast.model.requests import CreateBatch, FailBatchItem, Trigger, Triggered
from outlast.server import body as bodies
from outlast.server import options as trigger_options
from outlast.server import packets, public_tokens
from outlast.server.auth import Caller
from outlast.server.context import Context, accepted, answer, of
from outlast.server.problem import Problem, invalid
from outlast.store import catalog, runs

MAX_TRIGGER_BODY = MAX_PAYLOAD_BYTES * 2 + 1024 * 1024  # an escaped packet may be twice its size


def request_id(request: Request) -> str | None:
    found = request.headers.get("x-trigger-request-idempotency-key")
    return found[:256] if found else None


async def trigger(request: Request) -> Response:
    """POST /api/v1/tasks/{task}/trigger"""
    context = of(request)
    caller = await context.caller(request, public=True)
    task = request.path_params["task"]
    _check_task(task)
    caller.need("trigger", ("tasks", task))
    bodies.check_type(request)
    raw = await bodies.read(request, MAX_TRIGGER_BODY)
    found = bodies.decode(raw, trigger_options.body_decoder)
    options = trigger_options.read_options(found.options)
    _header_keys(request, options)
    options.traceparent = options.traceparent or request.headers.get("traceparent")
    now = context.engine.clock.now()
    if options.payload_type == packets.STORED:
        found = await with_upload(context, caller, found, options)
    item = trigger_options.trigger(caller.env.id, task, found, options, now=now)
    await _refuse_unknown(context, caller, task)
    request_key = request_id(request)
    if request_key is not None:
        item = replace(item, request_id=request_key, request_hash=hashlib.blake2b(raw, digest_size=12).hexdigest())
    if caller.token is not None and caller.token.once is not None:
        item = replace(item, once=caller.token.once, once_until=caller.token.expires_at * 1_000)
    made = accepted(await context.engine.call(triggers.trigger, item))
    headers = public_tokens.headers(caller.env, caller.key_id, [f"read:runs:{made.run_id}", f"write:inputStreams:{made.run_id}"], now)
    warnings = [made.warning or await _mismatch(context, item, made), _unknown(found)]
    if any(warnings):
        headers["x-outlast-warning"] = ", ".join(filter(None, warnings))
    return answer({"id": made.run_id, "isCached": made.is_cached}, headers=headers)


def _unknown(body: trigger_options.TriggerBody) -> str | None:
    """An option with a wrong name has no effect, and who sends it should know."""
    names = trigger_options.unknown(body.options)
    return f"unknown-options: {quote(' '.join(names)[:200], safe=' ')}" if names else None


async def _mismatch(context: Context, item: Trigger, made: Triggered) -> str | None:
    """The run of an idempotency key stays as it is; who sends another payload with the key is told."""
    if not made.is_cached or made.is_skipped or item.idempotency_hash is None or item.debounce is not None:
        return None
    found = (await context.engine.read(lambda tx: runs.data(tx, [made.run_id]))).get(made.run_id)
    return None if found is None or found.payload == item.payload else "idempotency-key-reuse"


async def with_upload(
    context: Context, caller: Caller, body: trigger_options.TriggerBody, options: trigger_options.TriggerOptions
) -> trigger_options.TriggerBody:
    """The body with the payload that was uploaded, in place of its address."""
    name = None if body.payload is msgspec.UNSET else msgspec.json.decode(body.payload)
    text, options.payload_type = await packets.fetched(context, caller.env.id, name)
    return trigger_options.TriggerBody(msgspec.Raw(msgspec.json.encode(text)), body.options)


def _check_task(task: str) -> None:
    if not TASK_ID.fullmatch(task):
        raise Problem(404, "Task not found", code="task_not_found")


async def _refuse_unknown(context: Context, caller: Caller, task: str) -> None:
    """Unknown tasks wait for a version that has them, unless this server is told to refuse them."""
    if context.unknown_tasks != "refuse":
        return
    env = await context.engine.read(lambda tx: catalog.environment(tx, caller.env.id))
    version = env.current_version
    known = await context.engine.read(lambda tx: catalog.task_definitions(tx, env.id, version, [task])) if version else {}
    if task not in known:
        raise Problem(404, "Task not found", code="task_not_found")


def _header_keys(request: Request, options: trigger_options.TriggerOptions) -> None:
    """The older form of idempotency keys."""
    if options.idempotency_key is None:
        options.idempotency_key = request.headers.get("idempotency-key")
    if options.idempotency_key_ttl is None:
        options.idempotency_key_ttl = request.headers.get("idempotency-key-ttl")


class Item(msgspec.Struct):
    task: str | None = None
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    options: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class BatchBody(msgspec.Struct, rename="camel"):
    items: list[Item]
    parent_run_id: str | None = None
    resume_parent_on_completion: bool | None = None


_batch_body = msgspec.json.Decoder(BatchBody)


async def batch_v2(request: Request) -> Response:
    """POST /api/v2/tasks/batch"""
    batch_id, _, headers, count = await _batch(request, None)
    return answer({"id": batch_id, "runCount": count, "isCached": False}, 202, headers)


async def batch_v1(request: Request) -> Response:
    """POST /api/v1/tasks/batch, and /api/v1/tasks/{task}/batch"""
    task = request.path_params.get("task")
    if task is not None:
        _check_task(task)
    batch_id, run_ids, headers, _ = await _batch(request, task)
    return answer({"batchId": batch_id, "runs": run_ids}, 200, headers)


async def _batch(request: Request, task: str | None) -> tuple[str, list[str], dict[str, str], int]:
    context = of(request)
    caller = await context.caller(request)
    bodies.check_type(request)
    raw = await bodies.read(request, MAX_BODY_BYTES)
    found = bodies.decode(raw, _batch_body)
    if not 1 <= len(found.items) <= MAX_BATCH_ITEMS:
        raise invalid(f"a batch has 1 to {MAX_BATCH_ITEMS} items, this one {len(found.items)}", "items")
    if found.resume_parent_on_completion:
        raise Problem(422, "waiting for a batch inside a task is not supported by this version of Outlast yet")
    context.take_batch(caller, len(found.items))
    items = [await item_of(context, caller, item, task or item.task or "", found.parent_run_id) for item in found.items]
    created = accepted(
        await context.engine.call(
            triggers.create_batch,
            CreateBatch(env_id=caller.env.id, count=len(items), request_id=request_id(request), parent_id=found.parent_run_id),
        )
    )
    run_ids = await _send_items(context, caller, created.batch_id, items)
    headers = public_tokens.headers(caller.env, caller.key_id, [f"read:batch:{created.batch_id}"], context.engine.clock.now())
    return created.batch_id, run_ids, headers, len(items)


async def item_of(context: Context, caller: Caller, item: Item, task: str, parent_id: str | None) -> Trigger | tuple[str, str]:
    """An item as a request, or (task, what is wrong with it): one bad item never fails its neighbours."""
    try:
        if not TASK_ID.fullmatch(task):
            raise Problem(404, f"task id {task[:100]!r} is not one")
        options = trigger_options.read_options(item.options)
        options.parent_run_id = options.parent_run_id or parent_id
        body = trigger_options.TriggerBody(item.payload, item.options)
        if options.payload_type == packets.STORED:
            body = await with_upload(context, caller, body, options)
        made = trigger_options.trigger(caller.env.id, task, body, options, now=context.engine.clock.now())
        return replace(made, options=replace(made.options, trigger_function="batchTrigger"))
    except Problem as problem:
        return task[:128], problem.message


async def _send_items(context: Context, caller: Caller, batch_id: str, items: list[Trigger | tuple[str, str]]) -> list[str]:
    """All items at once, behind what is interactive; those refused are counted by the batch."""
    engine = context.engine
    waiting: list[Awaitable[Any]] = []
    for index, item in enumerate(items):
        if isinstance(item, Trigger):
            waiting.append(engine.submit(triggers.trigger, replace(item, batch_id=batch_id, batch_index=index), bulk=True))
        else:
            waiting.append(engine.submit(triggers.fail_batch_item, failed_item(caller, batch_id, index, *item), bulk=True))
    run_ids: list[str] = []
    late: list[Awaitable[Any]] = []
    for index, outcome in enumerate(await asyncio.gather(*waiting)):
        item = items[index]
        if isinstance(outcome, Refusal) and isinstance(item, Trigger):
            late.append(engine.submit(triggers.fail_batch_item, failed_item(caller, batch_id, index, item.task, outcome.message)))
        elif isinstance(outcome, Triggered):
            run_ids.append(outcome.run_id)
    await asyncio.gather(*late)
    return run_ids


def failed_item(caller: Caller, batch_id: str, index: int, task: str, error: str) -> FailBatchItem:
    return FailBatchItem(env_id=caller.env.id, batch_id=batch_id, index=index, task=task, error=error[:4_000])
