"""Server-sent events: who reads too slowly is let go, who goes away is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from outlast.server.problem import unauthorized
from outlast.server.realtime.sse import EventStream, event
from outlast.store.database import DatabaseError


async def endless() -> AsyncGenerator[bytes]:
    n = 0
    while True:
        yield event(b"x" * 1_000, id=str(n))
        n += 1


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


async def allowed() -> None: ...


async def test_a_reader_that_takes_nothing_is_let_go_and_costs_nothing_more() -> None:
    """Row 82; crash-safety 47: it comes back with the id it had last."""
    sent: list[dict[str, Any]] = []
    released: list[bool] = []
    full = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 20:  # the socket's buffer is full, and stays so
            await full.wait()

    stream = EventStream(endless(), lambda: released.append(True), check=allowed, patience=0.05)
    async with asyncio.timeout(30):
        await stream({"type": "http", "path": "/x"}, never, send)
    assert released == [True]
    assert len(sent) == 21
    assert sent[0]["headers"]


async def test_a_reader_that_goes_away_ends_the_stream() -> None:
    released: list[bool] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        gone.set()
        await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await EventStream(endless(), lambda: released.append(True), check=allowed)({"type": "http", "path": "/x"}, receive, send)
    assert released == [True]


async def test_row_85_a_stream_ends_when_its_key_is_revoked_and_not_when_the_database_is_away() -> None:
    answers = [None, DatabaseError("away", retryable=True), unauthorized()]
    released: list[bool] = []

    async def check() -> None:
        if (problem := answers.pop(0)) is not None:
            raise problem

    async def quiet() -> AsyncGenerator[bytes]:
        yield event(b"1")
        await asyncio.Event().wait()

    async def send(_: Any) -> None: ...

    stream = EventStream(quiet(), lambda: released.append(True), check=check, check_seconds=0.001)
    async with asyncio.timeout(30):
        await stream({"type": "http", "path": "/x"}, never, send)
    assert (released, answers) == ([True], [])
