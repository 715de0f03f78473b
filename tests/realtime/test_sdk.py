"""`runs.subscribe`, `streams` and `input` as Python code uses them: in tasks, in threads, and from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

from outlast import batch, metadata, runs, step, streams, tags, task, wait
from outlast import sync as blocking
from outlast.batch import BatchItem
from outlast.client import connection
from outlast.client.address import Address as ServerAddress
from outlast.client.connection import Connection
from outlast.errors import BadRequest, InvalidValue, NotFound, OutsideRunError
from tests.databases import Address
from tests.durable.house import open_house
from tests.realtime.house import PATIENCE, Live


class Approval(pydantic.BaseModel):
    ok: bool


async def collect(live: Any) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [item async for item in live]


async def test_a_subscription_gives_each_state_of_a_run_and_ends_with_it(address: Address, tmp_path: Path) -> None:
    watched = asyncio.Event()

    @task
    async def works(payload: int) -> int:
        await watched.wait()
        metadata.set("half", True)
        await wait.for_(hours=1)
        await tags.add("late")
        return payload * 2

    seen: list[Any] = []
    async with open_house(address, tmp_path) as house, asyncio.timeout(PATIENCE):
        await house.work()
        handle = await works.trigger(21, tags=["a"])
        await house.until("SELECT 1 FROM runs WHERE execution = 'EXECUTING'")
        async for run in runs.subscribe(handle):
            seen.append(run)
            watched.set()
    statuses = [run.status for run in seen]
    changed = [s for s, before in zip(statuses, [None, *statuses], strict=False) if s != before]
    assert changed == ["EXECUTING", "WAITING", "EXECUTING", "COMPLETED"]
    last = seen[-1]
    assert (last.id, last.output, last.payload, last.metadata, sorted(last.tags)) == (handle.id, 42, 21, {"half": True}, ["a", "late"])
    assert last.is_success
    assert last.finished_at is not None


async def test_tags_and_batches_are_followed(address: Address, tmp_path: Path) -> None:
    @task
    async def doubles(payload: int) -> int:
        return payload * 2

    async with open_house(address, tmp_path) as house:
        many = await batch.trigger([BatchItem(i, task=doubles, tags=["x", "y"] if i else ["x"]) for i in range(3)])
        ended: dict[str, Any] = {}

        async def follow(live: Any, count: int) -> list[Any]:
            async for run in live:
                if run.is_completed:
                    ended.setdefault(run.id, run.output)
                    count -= 1
                if not count:
                    break
            return sorted(ended.values())

        by_batch = asyncio.ensure_future(follow(runs.subscribe_batch(many), 3))
        by_tag = asyncio.ensure_future(follow(runs.subscribe_tag(["x", "y"]), 2))
        await house.work()
        async with asyncio.timeout(PATIENCE):
            await by_tag
            assert await by_batch == [0, 2, 4]


async def test_chunks_are_read_live_by_their_type(address: Address, tmp_path: Path) -> None:
    ai = streams.define("ai", type=Approval)
    go_on = asyncio.Event()

    @task
    async def makes(payload: int) -> str:
        async def chunks() -> AsyncIterator[Approval]:
            yield Approval(ok=True)
            await go_on.wait()
            yield Approval(ok=False)

        await ai.pipe(chunks())
        await ai.append(Approval(ok=True))
        await streams.append({"n": 1})
        return "done"

    async with open_house(address, tmp_path) as house:
        await house.work()
        handle = await makes.trigger(1)
        seen: list[Approval] = []
        async with asyncio.timeout(PATIENCE):
            async for part in ai.read(handle):
                seen.append(part)
                go_on.set()
        assert seen == [Approval(ok=True), Approval(ok=False), Approval(ok=True)]
        assert await collect(ai.read(handle.id, start_index=2)) == [Approval(ok=True)]
        assert await collect(streams.read(handle)) == [{"n": 1}]


async def test_a_run_and_its_streams_are_followed_together(address: Address, tmp_path: Path) -> None:
    approvals, watched = streams.define("approvals", type=Approval), asyncio.Event()

    @task
    async def tells() -> int:
        await watched.wait()
        await approvals.append(Approval(ok=True))
        await streams.pipe(["a", "b"], "words")
        return 3

    seen: list[Any] = []
    async with open_house(address, tmp_path) as house, asyncio.timeout(PATIENCE):
        await house.work()
        handle = await tells.trigger()
        async for event in runs.subscribe(handle).with_streams(approvals):
            seen.append((event.type, event.run.status if event.run else event.chunk))
            watched.set()
        again = [event async for event in runs.subscribe(handle).with_streams()]
        nobody = runs.subscribe("run_none").with_streams()
        with pytest.raises(NotFound):
            await anext(nobody)
    assert [what for kind, what in seen if kind == "approvals"] == [Approval(ok=True)]
    assert [what for kind, what in seen if kind == "words"] == ["a", "b"]
    assert ("run", "COMPLETED") in seen
    assert [event.chunk for event in again if event.type == "approvals"] == [{"ok": True}]


async def test_a_replay_writes_no_chunk_twice(address: Address, tmp_path: Path) -> None:
    @task
    async def child(payload: int) -> None:
        await streams.append(payload, "all", target="parent")

    @task
    async def program(payload: int) -> None:
        await streams.pipe(range(3), "mine")
        await asyncio.gather(*[child.trigger_and_wait(i) for i in range(3)])
        await step("inside", lambda: None)
        await wait.for_(hours=1)
        await streams.pipe(range(3, 6), "mine")

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        handle = await program.trigger(1)
        assert await collect(streams.read(handle, "mine")) == list(range(6))
        assert sorted(await collect(streams.read(handle, "all"))) == [0, 1, 2]


async def test_a_def_task_pipes_from_its_thread(address: Address, tmp_path: Path) -> None:
    numbers = blocking.streams.define("numbers")

    @task
    def makes(payload: int) -> None:
        numbers.pipe(range(payload))
        numbers.append("end")

    async with open_house(address, tmp_path) as house:
        await house.work()
        handle = await makes.trigger(2_000)
        assert await collect(streams.read(handle, "numbers")) == [*range(2_000), "end"]


async def test_from_outside_a_run_is_named(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    here = Connection(ServerAddress(live.url, live.key))
    connection.use(here)

    async def chunks() -> AsyncIterator[int]:
        for i in range(250):
            yield i

    try:
        await streams.pipe(chunks(), "ai", target=run_id)
        await streams.pipe(range(250, 300), "ai", target=run_id)
        await streams.append("end", "ai", target=run_id)
        [claimed] = await live.claim(1)
        await live.end(claimed)
        assert await collect(streams.read(run_id, "ai")) == [*range(300), "end"]
        with pytest.raises(BadRequest):
            await streams.append("late", "ai", target=run_id)
        with pytest.raises(OutsideRunError):
            streams.append("whose", "ai")
        with pytest.raises(InvalidValue, match="name of a stream"):
            streams.define("a/b")
    finally:
        connection.stop_using(here)
        await here.close()


async def test_a_value_wakes_the_wait_and_one_that_came_before_is_kept(address: Address, tmp_path: Path) -> None:
    approvals = streams.input("approval", type=Approval)

    @task
    async def asks(payload: int) -> list[Any]:
        found: list[Any] = [(await approvals.wait()).unwrap().ok for _ in range(payload)]
        late = await streams.input("never").wait(timeout=1)
        return [*found, late.ok]

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        handle = await asks.trigger(3)
        for ok in (True, False, True):
            await approvals.send(handle, Approval(ok=ok))
        async with asyncio.timeout(PATIENCE):
            while not (run := await runs.retrieve(handle.id)).is_completed:
                await asyncio.sleep(0.01)
        assert run.output == [True, False, True, False], run.error
        with pytest.raises(BadRequest):
            await approvals.send(handle, Approval(ok=True))


async def test_waits_at_once_are_given_one_value_each_in_order(address: Address, tmp_path: Path) -> None:
    numbers = streams.input("numbers", type=int)

    @task
    async def asks(payload: int) -> list[int]:
        return [result.output for result in await asyncio.gather(*[numbers.wait() for _ in range(payload)])]

    async with open_house(address, tmp_path) as house:
        await house.work()
        handle = await asks.trigger(12)
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED'")
        for i in range(12):
            await numbers.send(handle, i)
        async with asyncio.timeout(PATIENCE):
            while not (run := await runs.retrieve(handle.id)).is_completed:
                await asyncio.sleep(0.01)
        assert run.output == list(range(12)), run.error


async def test_once_and_on_listen_without_going_to_sleep(address: Address, tmp_path: Path) -> None:
    words = streams.input("words", type=str)

    @task
    async def listens(payload: int) -> list[Any]:
        heard: list[str] = []
        listener = words.on(heard.append)
        first = await words.once(timeout=20)
        second = await words.once(timeout=20)
        while len(heard) < 2:
            await asyncio.sleep(0.01)
        listener.off()
        missed = await streams.input("never").once(timeout=0)
        return [first.output, second.output, heard, words.peek(), missed.ok]

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await listens.trigger(1)
        await words.send(handle.id, "a")
        await words.send(handle.id, "b")
        async with asyncio.timeout(PATIENCE):
            while not (run := await runs.retrieve(handle.id)).is_completed:
                await asyncio.sleep(0.01)
        assert run.output == ["a", "b", ["a", "b"], "b", False], run.error
