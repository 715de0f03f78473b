"""Reading a stream: from any record on, live, until its run is over or nothing comes for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine.streams import INPUT, topic
from outlast.model.run import Run
from outlast.server.api.runs import found
from outlast.server.auth import Caller
from outlast.server.context import Context, answer, of
from outlast.server.problem import invalid
from outlast.server.realtime.feed import Subscription
from outlast.server.realtime.limits import hold, limited
from outlast.server.realtime.sse import PING, EventStream
from outlast.server.sides import stream_key
from outlast.store import streams
from outlast.store.streams import Record

DEFAULT_SECONDS, MAX_SECONDS = 60, 600  # without a record, then a reader is let go
PING_SECONDS = 10.0
MAX_WAIT_SECONDS = 60  # of our own long poll

_encode = msgspec.json.encode


async def read(request: Request) -> Response:
    """GET /realtime/v1/streams/{run}/{key}"""
    run, _, caller = await found(request, "read")
    return await _follow(request, run, caller, stream_key(request.path_params["key"]))


async def read_input(request: Request) -> Response:
    """GET /realtime/v1/streams/{run}/input/{key}"""
    run, _, caller = await found(request, "read")
    return await _follow(request, run, caller, INPUT + stream_key(request.path_params["key"]))


async def _follow(request: Request, run: Run, caller: Caller, key: str) -> Response:
    headers = request.headers
    seconds = headers.get("timeout-seconds", str(DEFAULT_SECONDS))
    if not seconds.isdecimal() or not 1 <= int(seconds[:9]) <= MAX_SECONDS:
        raise invalid(f"Timeout-Seconds must be 1 to {MAX_SECONDS}", "Timeout-Seconds")
    context = of(request)
    start = _start(headers.get("last-event-id"))
    if start is None and headers.get("x-trigger-stream-start") == "latest":
        stream = await context.engine.read(lambda tx: streams.find(tx, (run.id, key)))
        start = stream.next_seq if stream is not None else 0
    is_old = headers.get("x-trigger-realtime-streams-version") == "v1"
    reader = Reader(context, run, key, start or 0)
    release = hold(request, caller.env.id, caller.token.id if caller.token else None)
    version = {"x-stream-version": "v1" if is_old else "v2"}
    return EventStream(_events(reader, int(seconds), is_old), release, version, check=partial(context.caller, request, public=True))


def _start(last: str | None) -> int | None:
    """The record after the last one a client has had; of old clients its number stands behind a time. Garbage begins anew."""
    number = (last or "").rpartition("-")[2] if last != "-1" else ""
    return int(number) + 1 if number.isascii() and number.isdecimal() and len(number) < 16 else None


class Reader:
    """One reader of one stream, and where it is."""

    def __init__(self, context: Context, run: Run, key: str, start: int) -> None:
        self._context = context
        self._run = run
        self._key = key
        self.next = start
        self.is_over = run.is_final

    def subscribe(self) -> Subscription:
        run = self._run
        return self._context.feed.subscribe(run.env_id, runs=[run.id], topics=[topic(run.id, self._key)])

    async def look(self) -> None:
        """Is the run over? Asked once more when the subscription has begun: it may have ended since it was found."""
        pair = await self._context.rows.get(self._run.env_id, self._run.id) if not self.is_over else None
        self.is_over = self.is_over or pair is None or pair[0].is_final

    async def take(self) -> list[Record]:
        records = await self._context.engine.read(lambda tx: streams.read(tx, (self._run.id, self._key), self.next))
        if records:
            self.next = records[-1].seq + 1
        return records

    async def wait(self, subscription: Subscription, seconds: float) -> bool:
        """Until there may be something, or the run is over; False when the time is."""
        taken = await subscription.take(seconds)
        if taken.missed or any(change.is_final for change in taken.changes):
            await self.look()
        return bool(taken.topics or taken.missed or taken.changes)


async def _events(reader: Reader, seconds: int, is_old: bool) -> AsyncGenerator[bytes]:
    loop = asyncio.get_running_loop()
    async with reader.subscribe() as subscription:
        await reader.look()
        deadline = loop.time() + seconds
        while not subscription.closed:
            was_over = reader.is_over  # known before the look: what was written until then is seen by it
            if records := await reader.take():
                yield _old(records) if is_old else _batch(records)
                deadline = loop.time() + seconds
                continue
            if was_over or loop.time() >= deadline:
                return
            if not await reader.wait(subscription, min(PING_SECONDS, deadline - loop.time())) and loop.time() < deadline:
                yield PING


def _batch(records: Sequence[Record]) -> bytes:
    listed: list[dict[str, object]] = [{"seq_num": r.seq, "timestamp": r.at, "headers": [], "body": _body(r)} for r in records]
    return f"id: {records[-1].seq}\nevent: batch\ndata: ".encode() + _encode({"records": listed}) + b"\n\n"


def _body(record: Record) -> str:
    id_ = _encode(record.part if record.part is not None else f"s{record.seq}").decode()
    return f'{{"data":{record.body},"id":{id_}}}'


def _old(records: Sequence[Record]) -> bytes:
    return "".join(f"id: {r.at}-{r.seq}\ndata: {r.body}\n\n" for r in records).encode()


async def poll(request: Request) -> Response:
    """GET /api/outlast/v1/runs/{run}/streams/{key}?start=N&wait=SECONDS: records from `start` on, held until there is one."""
    run, _, caller = await found(request, "read")
    key, query = stream_key(request.path_params["key"]), request.query_params
    start, wait = query.get("start", "0"), query.get("wait", "0")
    if not start.isdecimal() or len(start) > 15:
        raise invalid("start must be the number of a record", "start")
    if not wait.isdecimal() or int(wait[:9]) > MAX_WAIT_SECONDS:
        raise invalid(f"wait must be 0 to {MAX_WAIT_SECONDS} seconds", "wait")
    reader = Reader(of(request), run, key, int(start))
    with limited(request, caller.env.id, caller.token.id if caller.token else None):
        records, over = await _poll(reader, int(wait))
    listed = [{"seq": r.seq, "at": r.at, "data": msgspec.Raw(r.body.encode())} for r in records]
    return answer({"records": listed, "next": reader.next, "done": over and not records})


async def _poll(reader: Reader, seconds: int) -> tuple[list[Record], bool]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    async with reader.subscribe() as subscription:
        await reader.look()
        while True:
            was_over = reader.is_over
            records = await reader.take()
            if records or was_over or subscription.closed or loop.time() >= deadline:
                return records, was_over
            await reader.wait(subscription, deadline - loop.time())
