"""Batches in two phases, as the official client makes all of its batches: create one, then stream its items into it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine import triggers
from outlast.model.limits import MAX_BATCH_ITEMS, MAX_KEY_CHARS, MAX_PAYLOAD_BYTES
from outlast.model.refusal import Refusal
from outlast.model.requests import CreateBatch, Trigger, Triggered
from outlast.server import body as bodies
from outlast.server import options, public_tokens
from outlast.server.api.tasks import MAX_TRIGGER_BODY, Item, failed_item, item_of, request_id
from outlast.server.auth import Caller
from outlast.server.context import Context, accepted, answer, of
from outlast.server.ndjson import lines
from outlast.server.problem import Problem, invalid, refused
from outlast.store import batches

NDJSON = ("application/x-ndjson", "application/ndjson")
MAX_IN_FLIGHT = 200  # one flush
MAX_BYTES_IN_FLIGHT = 4 * MAX_PAYLOAD_BYTES


class CreateBody(msgspec.Struct, rename="camel"):
    run_count: int
    task_identifiers: list[str] | None = None
    parent_run_id: str | None = None
    resume_parent_on_completion: bool | None = None
    idempotency_key: str | None = None


class StreamedItem(Item):
    index: int = -1


_NOT_TAKEN = ("batch_sealed", "batch_aborted", "bad_index")
_create = msgspec.json.Decoder(CreateBody)
_item = msgspec.json.Decoder(StreamedItem)


async def create(request: Request) -> Response:
    """POST /api/v3/batches"""
    context = of(request)
    caller = await context.caller(request, public=True)
    bodies.check_type(request)
    body = bodies.decode(await bodies.read(request, 1024 * 1024), _create)
    tasks = body.task_identifiers or []
    _need_tasks(caller, tasks)
    if not 1 <= body.run_count <= MAX_BATCH_ITEMS:
        raise invalid(f"runCount must be 1 to {MAX_BATCH_ITEMS}, and is {body.run_count}", "runCount")
    if body.resume_parent_on_completion:
        raise Problem(422, "resumeParentOnCompletion is for TypeScript workers, which Outlast does not host: leave it out")
    context.take_batch(caller, body.run_count)
    key = body.idempotency_key
    if key is not None:
        options.text_field(key, "idempotencyKey", MAX_KEY_CHARS)
    item = CreateBatch(
        env_id=caller.env.id,
        count=body.run_count,
        request_id=request_id(request),
        parent_id=body.parent_run_id,
        idempotency_key=key,
        idempotency_hash=hashlib.sha256(key.encode()).hexdigest() if key else None,
        once=caller.token.once if caller.token else None,
        once_until=caller.token.expires_at * 1_000 if caller.token else 0,
    )
    made = accepted(await context.engine.call(triggers.create_batch, item))
    found = {"id": made.batch_id, "runCount": body.run_count, "isCached": made.is_cached}
    if key is not None:
        found["idempotencyKey"] = key
    return answer(found, 202, _handle(caller, made.batch_id, tasks, context.engine.clock.now()))


def _need_tasks(caller: Caller, tasks: list[str]) -> None:
    if not tasks:
        caller.need("batchTrigger", ("batch", None), ("tasks", None))
    for task in tasks:
        caller.need("batchTrigger", ("tasks", task))


def _handle(caller: Caller, batch_id: str, tasks: list[str], now: int) -> dict[str, str]:
    scopes = [f"read:batch:{batch_id}"]
    if caller.token is not None:  # it may be all that a browser has for the items
        scopes += [f"write:batch:{batch_id}", *(f"batchTrigger:tasks:{task}" for task in tasks)]
    return public_tokens.headers(caller.env, caller.key_id, scopes, now)


async def items(request: Request) -> Response:
    """POST /api/v3/batches/{batch}/items"""
    context = of(request)
    caller = await context.caller(request, public=True)
    batch_id = request.path_params["batch"]
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in NDJSON:
        raise Problem(415, "send items as application/x-ndjson, one a line")
    batch = await context.engine.read(lambda tx: batches.read(tx, caller.env.id, batch_id))
    if batch is None:
        raise Problem(404, "Batch not found")
    sending = Sending(context, caller, batch_id)
    try:
        async for line in lines(request, MAX_TRIGGER_BODY):
            await sending.add(line)
        await sending.settle(0)
    finally:
        await sending.abandon()
    found = await context.engine.read(lambda tx: batches.read(tx, caller.env.id, batch_id)) or batch
    body = {"id": batch_id, "itemsAccepted": sending.accepted, "itemsDeduplicated": sending.repeated, "sealed": found.sealed_at is not None}
    if found.sealed_at is None:
        body |= {"enqueuedCount": found.received, "expectedCount": found.expected}
    return answer(body)


@dataclass
class Sending:
    """Items on their way into the engine: as many as a flush takes, and never more bytes than four of the largest."""

    context: Context
    caller: Caller
    batch_id: str
    accepted: int = 0
    repeated: int = 0
    _on_the_way: dict[asyncio.Task[bool], int] = field(default_factory=dict[asyncio.Task[bool], int])
    _bytes: int = 0

    async def add(self, line: bytes) -> None:
        item = self._read(line)
        self.caller.need("batchTrigger", ("tasks", item.task))
        self._on_the_way[asyncio.create_task(self._send(item))] = len(line)
        self._bytes += len(line)
        while len(self._on_the_way) >= MAX_IN_FLIGHT or self._bytes > MAX_BYTES_IN_FLIGHT:
            await self.settle(len(self._on_the_way) // 2)

    async def settle(self, left: int) -> None:
        """Wait until so many are still on their way.

        Raises:
            Problem: the batch refused an item.
        """
        while len(self._on_the_way) > left:
            done, _ = await asyncio.wait(self._on_the_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._bytes -= self._on_the_way.pop(task)
                if task.result():
                    self.accepted += 1
                else:
                    self.repeated += 1

    async def abandon(self) -> None:
        """Items that are on their way arrive, whatever became of the request; nobody asks for their answers any more."""
        await asyncio.gather(*self._on_the_way, return_exceptions=True)

    def _read(self, line: bytes) -> StreamedItem:
        try:
            item = bodies.decode(line, _item)
        except Problem as problem:
            if problem.code == "validation_error":
                problem.status = 422
            raise
        if item.index < 0 or item.task is None:
            raise Problem(
                422, "an item has an index from 0 and a task", code="validation_error", param="index" if item.index < 0 else "task"
            )
        return item

    async def _send(self, item: StreamedItem) -> bool:
        """Whether it is new. What is wrong with one item is said by the batch, and fails none of its neighbours."""
        engine, caller, index = self.context.engine, self.caller, item.index
        found = await item_of(self.context, caller, item, item.task or "", None)
        outcome: Triggered | Refusal | bool
        if isinstance(found, Trigger):
            outcome = await engine.call(triggers.trigger, replace(found, batch_id=self.batch_id, batch_index=index), bulk=True)
            if isinstance(outcome, Triggered):
                return not outcome.is_repeat
            if outcome.code in _NOT_TAKEN:
                raise refused(outcome)
            found = (found.task, outcome.message)
        outcome = await engine.call(triggers.fail_batch_item, failed_item(caller, self.batch_id, index, *found), bulk=True)
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        return outcome
