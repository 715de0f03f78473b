"""Triggering inside a task: recorded in the run's journal, so that a replay makes no second child."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from outlast import current, durable
from outlast.client import requests
from outlast.client.answers import BatchHandle, RunHandle
from outlast.client.calls import here as connection
from outlast.durable import Durable, Slot
from outlast.errors import InvalidValue
from outlast.model.journal import TIMED_OUT, Entry, OpKind
from outlast.model.limits import MAX_BATCH_ITEMS
from outlast.pending import Pending, PendingBatch, PendingResult
from outlast.results import BatchResult, Result, RunError, TimedOut

if TYPE_CHECKING:
    from outlast.client.requests import Outcome

Wire = dict[str, Any]
Decode = Callable[[str | None, str], Any]
NO_ITEM = "there is no item, and a batch has at least one: make the call only when there is something to do"
PART_BYTES = 8 * 1024 * 1024  # of payloads in one operation, well below the largest frame


def trigger(here: Durable, call: str, task: str, wire: Wire) -> Pending[RunHandle[Any]]:
    slot = here.slot("trigger", task, None, durable.fingerprint(wire), call)

    async def go() -> RunHandle[Any]:
        entry = await here.perform(slot, _args(task, wire))
        return RunHandle(entry.ref or "", False, "", task)

    return Pending(call, go, lambda: here.block(go))


def trigger_and_wait(
    here: Durable, call: str, task: str, wire: Wire, key: str | None, timeout_ms: int | None, decode: Decode
) -> PendingResult[Any]:
    """The child runs the parent's own version."""
    slot = here.slot("trigger_and_wait", task, key, durable.fingerprint(wire), call)

    async def go() -> Result[Any]:
        entry = await here.perform(slot, {**_args(task, wire, version=_version()), "timeout_ms": timeout_ms})
        run_id = entry.ref or ""
        if entry.status == "ok":
            return Result(True, run_id, task, decode(entry.value, entry.value_type or "application/json"))
        failure = durable.failure(entry)
        error = RunError(failure.name or failure.code, failure.message, failure.stack or None, failure.code)
        if entry.value_type == TIMED_OUT:
            return TimedOut(False, run_id, task, error)
        return Result(False, run_id, task, error)

    return PendingResult(call, go, lambda: here.block(go))


class Parts:
    """The items of a batch, cut into operations: each takes its place in the journal when its items are known.

    Whoever has all items at once (`wires`) takes all places when the call is made, in program order.
    """

    def __init__(self, here: Durable, call: str, kind: OpKind, wires: list[Wire] | AsyncIterator[Wire], extra: dict[str, Any]) -> None:
        self._here, self._call, self._extra = here, call, extra
        self._kind: OpKind = kind
        self._wires = wires
        self._known = [self._part(part) for part in _cut(wires)] if isinstance(wires, list) else None
        self.count = 0

    def _part(self, part: list[Wire]) -> tuple[Slot, Wire]:
        slot = self._here.slot(self._kind, "batch", None, durable.fingerprint(part), self._call)
        version = _version() if self._kind == "batch_and_wait" else None
        return slot, {"items": [_item(wire, version) for wire in part], **self._extra}

    async def __aiter__(self) -> AsyncIterator[tuple[Slot, Wire]]:
        """Never more than one operation's items at a time of an iterable that makes them on demand."""
        if self._known is not None:
            for slot, args in self._known:
                self.count += len(args["items"])
                yield slot, args
            return
        assert not isinstance(self._wires, list)
        part: list[Wire] = []
        size = 0
        async for wire in self._wires:
            if part and (len(part) == MAX_BATCH_ITEMS or size + _size(wire) > PART_BYTES):
                yield self._part(part)
                part, size = [], 0
            part.append(wire)
            size += _size(wire)
            self.count += 1
        if not self.count:
            raise InvalidValue(f"{self._call}: {NO_ITEM}")
        yield self._part(part)


def batch_trigger(here: Durable, call: str, wires: list[Wire] | AsyncIterator[Wire]) -> Pending[BatchHandle]:
    parts = Parts(here, call, "batch", wires, {})

    async def go() -> BatchHandle:
        entries = [await here.perform(slot, args) async for slot, args in parts]
        return BatchHandle(entries[0].ref or "", parts.count, "")

    return Pending(call, go, lambda: here.block(go))


def batch_trigger_and_wait(
    here: Durable, call: str, wires: list[Wire] | AsyncIterator[Wire], timeout_ms: int | None, decode: Callable[[str], Decode]
) -> PendingBatch[Any]:
    """What does not fit into one operation is several batches, which run at once; the results come in the order of the items."""
    parts = Parts(here, call, "batch_and_wait", wires, {"timeout_ms": timeout_ms})

    async def go() -> BatchResult[Any]:
        import asyncio

        waits: list[asyncio.Task[Entry]] = []
        try:
            async for slot, args in parts:
                waits.append(asyncio.ensure_future(here.perform(slot, args)))
                await here.noted(slot)  # durable before more items are asked for
            entries = [await wait for wait in waits]
        finally:
            for wait in waits:
                wait.cancel()
        results = [result for entry in entries for result in await _results(entry, decode)]
        return BatchResult(entries[0].ref or "", results)

    return PendingBatch(call, go, lambda: here.block(go))


async def _results(entry: Entry, decode: Callable[[str], Decode]) -> list[Result[Any]]:
    outcomes = await connection().send(requests.batch_outcomes(entry.ref or ""))
    if entry.value_type != TIMED_OUT:
        return [_result(outcome, decode) for outcome in outcomes]
    # those that were over by then, and no others, however often this is looked at
    done = set(msgspec.json.decode(entry.value or "[]", type=list[int]))
    late = RunError("WaitTimedOut", f"it was not over in time: the wait for batch {entry.ref} had a timeout")
    return [
        _result(outcome, decode) if index in done else TimedOut(False, outcome.id, outcome.task_identifier, late)
        for index, outcome in enumerate(outcomes)
    ]


def _cut(wires: list[Wire]) -> list[list[Wire]]:
    parts: list[list[Wire]] = [[]]
    size = 0
    for wire in wires:
        if parts[-1] and (len(parts[-1]) == MAX_BATCH_ITEMS or size + _size(wire) > PART_BYTES):
            parts.append([])
            size = 0
        parts[-1].append(wire)
        size += _size(wire)
    return parts


def _size(wire: Wire) -> int:
    return len(wire.get("payload") or "")


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
