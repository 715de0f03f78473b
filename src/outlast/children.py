"""Triggering inside a task: recorded in the run's journal, so that a replay makes no second child."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from outlast import current, durable
from outlast.client import requests
from outlast.client.answers import BatchHandle, RunHandle
from outlast.client.calls import here as connection
from outlast.durable import Durable
from outlast.model.limits import MAX_BATCH_ITEMS
from outlast.pending import Pending, PendingBatch, PendingResult
from outlast.results import BatchResult, Result, RunError

if TYPE_CHECKING:
    from outlast.client.requests import Outcome

Wire = dict[str, Any]
Decode = Callable[[str | None, str], Any]


def trigger(here: Durable, call: str, task: str, wire: Wire) -> Pending[RunHandle[Any]]:
    slot = here.slot("trigger", task, None, durable.fingerprint(wire), call)

    async def go() -> RunHandle[Any]:
        entry = await here.perform(slot, _args(task, wire))
        return RunHandle(entry.ref or "", False, "", task)

    return Pending(call, go, lambda: here.block(go))


def trigger_and_wait(here: Durable, call: str, task: str, wire: Wire, key: str | None, decode: Decode) -> PendingResult[Any]:
    """The child runs the parent's own version."""
    slot = here.slot("trigger_and_wait", task, key, durable.fingerprint(wire), call)

    async def go() -> Result[Any]:
        entry = await here.perform(slot, _args(task, wire, version=_version()))
        run_id = entry.ref or ""
        if entry.status == "ok":
            return Result(True, run_id, task, decode(entry.value, entry.value_type or "application/json"))
        failure = durable.failure(entry)
        return Result(False, run_id, task, RunError(failure.name or failure.code, failure.message, failure.stack or None))

    return PendingResult(call, go, lambda: here.block(go))


def batch_trigger(here: Durable, call: str, wires: list[Wire]) -> Pending[BatchHandle]:
    slots = [(here.slot("batch", "batch", None, durable.fingerprint(part), call), part) for part in _parts(wires)]

    async def go() -> BatchHandle:
        entries = [await here.perform(slot, {"items": [_item(w) for w in part]}) for slot, part in slots]
        return BatchHandle(entries[0].ref or "", len(wires), "")

    return Pending(call, go, lambda: here.block(go))


def batch_trigger_and_wait(here: Durable, call: str, wires: list[Wire], decode: Callable[[str], Decode]) -> PendingBatch[Any]:
    """More than 1,000 items are several batches, which run at once; the results come in the order of the items."""
    version = _version()
    slots = [(here.slot("batch_and_wait", "batch", None, durable.fingerprint(part), call), part) for part in _parts(wires)]

    async def go() -> BatchResult[Any]:
        import asyncio

        entries = await asyncio.gather(*(here.perform(slot, {"items": [_item(w, version) for w in part]}) for slot, part in slots))
        results: list[Result[Any]] = []
        for entry in entries:
            results += [_result(o, decode) for o in await connection().send(requests.batch_outcomes(entry.ref or ""))]
        return BatchResult(entries[0].ref or "", results)

    return PendingBatch(call, go, lambda: here.block(go))


def _parts(wires: list[Wire]) -> list[list[Wire]]:
    return [wires[i : i + MAX_BATCH_ITEMS] for i in range(0, len(wires), MAX_BATCH_ITEMS)]


def _args(task: str, wire: Wire, version: str | None = None) -> Wire:
    return {"task": task, "body": msgspec.json.encode(wire).decode(), "version": version}


def _item(wire: Wire, version: str | None = None) -> Wire:
    return _args(wire["task"], {k: v for k, v in wire.items() if k != "task"}, version)


def _version() -> str | None:
    attempt = current.attempt.get()
    if attempt is None or attempt.ctx.environment.type == "DEVELOPMENT":
        return None  # one copy of the code: the newest
    return attempt.ctx.run.version


def _result(outcome: Outcome, decode: Callable[[str], Decode]) -> Result[Any]:
    task = outcome.task_identifier
    if outcome.ok:
        return Result(True, outcome.id, task, decode(task)(outcome.output, outcome.output_type))
    return Result(False, outcome.id, task, requests.run_error(outcome))
