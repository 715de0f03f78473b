"""The worker without processes, as embedded programs have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from outlast import task
from outlast.config import Config
from outlast.model.manifest import Manifest
from outlast.model.messages import Bye, Hello, Join, Release, SessionLost
from outlast.worker.inline import InlineWorker
from tests.worker.desk import Desk, InMemory


@asynccontextmanager
async def _inline() -> AsyncIterator[tuple[Desk, InlineWorker]]:
    desk = Desk()

    def connect(supervisor: bool) -> InMemory:
        made = InMemory(desk)
        desk.peers.append(made.peer)
        return made

    worker = InlineWorker(connect, Manifest(python="3.11", content_hash="x", tasks=[]), config=Config())
    running = asyncio.create_task(worker.run())
    await desk.ready()
    try:
        yield desk, worker
    finally:
        await worker.stop(0)
        await asyncio.wait_for(running, 30)


async def test_it_says_hello_joins_and_runs() -> None:
    @task(id="hello")
    async def hello(payload: str) -> str:
        return f"hello {payload}"

    async with _inline() as (desk, _):
        assert (await desk.done(desk.push("hello", "ada"))).output == '"hello ada"'
        assert len(desk.of(Hello)) == 1 and desk.of(Join)[0].executor == "inline"
    assert isinstance(desk.received[-1], Bye)


async def test_stopping_gives_back_what_does_not_end() -> None:
    began = asyncio.Event()

    @task(id="long")
    async def long() -> None:
        began.set()
        await asyncio.Event().wait()

    async with _inline() as (desk, worker):
        run_id = desk.push("long")
        await began.wait()
        await worker.stop(0.01)
        assert [(r.run_id, r.reason) for r in desk.of(Release)] == [(run_id, "drain")]


async def test_a_session_that_is_over_is_followed_by_another() -> None:
    ended = asyncio.Event()
    began = asyncio.Event()

    @task(id="long")
    async def long() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with _inline() as (desk, _):
        desk.push("long")
        await began.wait()
        await desk.peers[0].send([SessionLost("the lease lapsed")])
        await asyncio.wait_for(ended.wait(), 30)
        await desk.first(Join, lambda j: j.session == "s2" and not j.held)
        await desk.until(lambda: desk.peers[-1].credit.async_slots, "room again")
