"""Chunks on their way: from a task beside its journal, from outside as numbered lines, and back to whoever reads."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from outlast import current, values
from outlast.client import requests
from outlast.client.calls import Flow, bound, flow
from outlast.client.live import Asking, Live
from outlast.errors import ApiError, InvalidValue
from outlast.model import payload as packets
from outlast.model.limits import MAX_CHUNK_BYTES
from outlast.pending import Pending
from outlast.schema import Schema

if TYPE_CHECKING:
    from outlast.beside import Beside

T = TypeVar("T")
Chunks = Iterable[T] | AsyncIterable[T]
WAIT_SECONDS = 30  # of one long poll
SENT_TOGETHER = 100  # chunks


def text_of(value: Any) -> str:
    """A chunk as JSON."""
    data, data_type = values.encode(value)
    if data_type != packets.JSON:
        data = values.encode(packets.to_json(data, data_type))[0]
    if data is not None and len(data) > MAX_CHUNK_BYTES:
        raise InvalidValue(
            f"a chunk has at most {MAX_CHUNK_BYTES} bytes, and this one {len(data)}: store it elsewhere and send its address"
        )
    return "null" if data is None else data


# ---- writing


def beside_of_here() -> Beside | None:
    attempt = current.attempt.get()
    return attempt.beside if attempt is not None else None


def writing(name: str, key: str, chunks: Chunks[Any], target: str) -> Pending[None]:
    beside = beside_of_here()
    if beside is None and target in ("self", "parent", "root"):
        current.required(name)
    if beside is not None:
        return Pending(name, lambda: _inside(beside, key, chunks, target), lambda: _inside_blocking(beside, key, chunks, target))
    return (
        flow(name, lambda: _outside(key, chunks, target)) if not hasattr(chunks, "__aiter__") else _outside_async(name, key, chunks, target)
    )


async def _inside(beside: Beside, key: str, chunks: Chunks[Any], target: str) -> None:
    async for chunk in _each(chunks):
        beside.stream(target, key, text_of(chunk))
        await beside.room()
    await beside.flushed()


def _inside_blocking(beside: Beside, key: str, chunks: Chunks[Any], target: str) -> None:
    if hasattr(chunks, "__aiter__"):
        raise TypeError("a `def` task pipes what `for` goes through: `async for` needs an `async def` task")
    for n, chunk in enumerate(cast("Iterable[Any]", chunks)):
        beside.stream(target, key, text_of(chunk))
        if n % SENT_TOGETHER == SENT_TOGETHER - 1:
            beside.block(beside.room())
    beside.block(beside.flushed())


async def _each(chunks: Chunks[Any]) -> AsyncIterator[Any]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


def _outside(key: str, chunks: Chunks[Any], run_id: str) -> Flow[None]:
    writer, index, lines = uuid.uuid4().hex, 0, list[str]()
    for chunk in cast("Iterable[Any]", chunks):
        lines.append(text_of(chunk))
        if len(lines) == SENT_TOGETHER:
            yield requests.write_stream(run_id, key, lines, writer, index)
            index, lines = index + len(lines), []
    if lines:
        yield requests.write_stream(run_id, key, lines, writer, index)


def _outside_async(name: str, key: str, chunks: Chunks[Any], run_id: str) -> Pending[None]:
    """Chunks that come slowly leave one by one; those that come while a request is under way leave together."""
    from outlast.client import calls

    target = bound.get()

    async def go() -> None:
        import asyncio

        arrived: asyncio.Queue[str | None] = asyncio.Queue(SENT_TOGETHER)

        async def gather() -> None:
            async for chunk in _each(chunks):
                await arrived.put(text_of(chunk))
            await arrived.put(None)

        gathering = asyncio.get_running_loop().create_task(gather())
        gathering.add_done_callback(lambda done: arrived.put_nowait(None) if not done.cancelled() and done.exception() else None)
        writer, index, more = uuid.uuid4().hex, 0, True
        try:
            while more:
                lines = [await arrived.get()]
                while not arrived.empty():
                    lines.append(arrived.get_nowait())
                more = None not in lines
                found = [line for line in lines if line is not None]
                if found:
                    await calls.run(calls.one(requests.write_stream(run_id, key, found, writer, index)), target)
                index += len(found)
            await gathering
        finally:
            gathering.cancel()

    return Pending(name, go)


# ---- reading


def reading(run_id: str, key: str, schema: Schema | None, start: int, timeout: float | None) -> Live[Any]:
    def ask() -> Asking[Any]:
        following, idle = start, 0.0
        while timeout is None or idle < timeout:
            wait = WAIT_SECONDS if timeout is None else min(WAIT_SECONDS, timeout - idle)
            answer = yield requests.poll_stream(run_id, key, following, max(1, round(wait)))
            if isinstance(answer, ApiError):
                raise answer
            following = answer.next
            texts = [bytes(record.data).decode() for record in answer.records]
            yield texts if schema is None else [schema.read(text, packets.JSON) for text in texts]
            if answer.done:
                return
            idle = 0.0 if texts else idle + wait

    return Live(ask)
