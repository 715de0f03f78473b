"""The same program, ended at every durable operation in turn: the result is that of the uninterrupted one."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from outlast import Task, retry, run, step, task, wait
from tests.databases import Address
from tests.durable.house import House, open_house

Ledger = dict[str, set[str]]


def program(ledger: Ledger) -> Task[Any, Any]:
    """Steps in sequence, branches with I/O between, a task group, children, a batch, waits. `ledger`: keys of each step's effects."""

    def effect(name: str) -> str:
        ledger[name].add(step.idempotency_key)
        return f"did {name}"

    async def pause() -> None:
        await asyncio.sleep(random.random() * 0.003)

    @task
    async def child(payload: int) -> int:
        await pause()
        return payload * 10

    async def branch(i: int) -> list[Any]:
        await pause()
        first = await step("branch", effect, f"branch {i} first")
        await pause()
        made = await child.trigger_and_wait(i).unwrap()
        if i % 2:
            await wait.for_(hours=i)
        return [first, made, await step("branch", effect, f"branch {i} second")]

    @task
    async def chain(payload: list[str]) -> list[str]:
        """Three runs, one after the other."""
        payload.append(await step("link", effect, f"link {len(payload)}"))
        await wait.for_(hours=1)
        if len(payload) < 3:
            await run.continue_as(payload)
        return payload

    async def flaky(attempt: int) -> str:
        if attempt == 1:
            raise ConnectionError("away")
        return await step("inside", effect, "inside a try")

    @task
    async def parent(payload: str) -> list[Any]:
        trace: list[Any] = [await step("begin", effect, f"{payload} begin")]
        started = run.now()
        trace += await asyncio.gather(*[branch(i) for i in range(3)])
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(branch(i + 10)) for i in range(2)]
        trace += [t.result() for t in made]
        await wait.for_(days=3)
        batch = await child.batch_trigger_and_wait(range(3))
        trace += [r.output for r in batch.runs]
        await child.trigger(99)
        token = await wait.create_token()
        trace.append((await wait.for_token(token, timeout="2h")).error.name)
        trace.append((await wait.first(wait.for_(days=2), wait.for_(hours=1), timeout="3d")).index)
        trace.append(await retry.on_throw(flaky, max_attempts=3, min_timeout=60))
        trace.append((run.now() - started).days >= 3)
        trace.append(await chain.trigger_and_wait([]).unwrap())
        trace.append(await step("end", effect, "end"))
        return trace

    return parent


async def finish(house: House, parent: Task[Any, Any], name: str) -> Any:
    async with asyncio.timeout(60):
        return await parent.trigger_and_wait(name).unwrap()


async def test_ended_at_every_operation_a_program_gives_the_same(address: Address, tmp_path: Path) -> None:
    ledger: Ledger = defaultdict(set)
    parent = program(ledger)
    async with open_house(address, tmp_path) as house:
        first = await house.work()
        expected = await finish(house, parent, "p")
        assert first.operations > 40
        for last in range(1, first.operations + 1):
            house.retire()
            ledger.clear()
            mortal = await house.work(last=last)
            assert await finish(house, parent, "p") == expected, f"ended at operation {last}"
            assert mortal.died.is_set()
            assert {name: len(keys) for name, keys in ledger.items()} == dict.fromkeys(ledger, 1)
        await check(house, times=first.operations + 1)


async def test_replayed_at_every_wait_a_program_gives_the_same(address: Address, tmp_path: Path) -> None:
    ledger: Ledger = defaultdict(set)
    parent = program(ledger)
    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        result = await finish(house, parent, "p")
        assert [len(r) if isinstance(r, list) else r for r in result][1:6] == [3, 3, 3, 3, 3]
        assert all(len(keys) == 1 for keys in ledger.values())
        await check(house)


def fan(ledger: Ledger, children: int) -> Task[Any, Any]:
    """20 branches of 3 steps with real I/O between them, a task group, a race, a batch."""

    def effect(name: str) -> str:
        ledger[name].add(step.idempotency_key)
        return name

    async def io() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port[0])
        writer.write(b"x")
        await reader.readexactly(1)
        writer.close()
        await asyncio.sleep(random.random() * 0.002)

    port = [0]

    async def branch(i: int) -> list[str]:
        got: list[str] = []
        for n in range(3):
            await io()
            got.append(await step("work", effect, f"branch {i} step {n}"))
        return got

    @task
    async def leaf(payload: int) -> int:
        return payload + 1

    @task
    async def spread(payload: int) -> list[Any]:
        port[0] = payload
        trace: list[Any] = await asyncio.gather(*[branch(i) for i in range(20)])
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(branch(100 + i)) for i in range(3)]
        trace += [t.result() for t in made]
        won = await wait.first(wait.for_(days=3), wait.for_(days=1), wait.for_(days=2))
        trace.append(won.index)
        trace += [r.output for r in (await leaf.batch_trigger_and_wait(range(children))).runs]
        return trace

    return spread


async def crashed_at_random(address: Address, folder: Path, times: int, children: int = 50) -> None:
    """`times` runs, each executor of which dies at a random operation of its own."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        await writer.drain()
        writer.close()

    ledger: Ledger = defaultdict(set)
    spread = fan(ledger, children)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    expected = [[f"branch {i} step {n}" for n in range(3)] for i in (*range(20), 100, 101, 102)] + [1, *range(1, children + 1)]
    chance = random.Random(5)
    async with open_house(address, folder) as house:
        for _ in range(times):
            ledger.clear()
            mortal = await house.work(last=chance.randrange(1, 70))
            async with asyncio.timeout(60):
                assert await spread.trigger_and_wait(port).unwrap() == expected
            assert mortal.died.is_set()
            assert {name: len(keys) for name, keys in ledger.items()} == dict.fromkeys(ledger, 1)
            assert len(ledger) == 23 * 3
            house.retire()
    server.close()
    await server.wait_closed()


async def test_branches_with_io_ended_at_random_points_give_the_same(address: Address, tmp_path: Path) -> None:
    await crashed_at_random(address, tmp_path, 5)


@pytest.mark.full
async def test_branches_with_io_ended_at_a_hundred_random_points_give_the_same(address: Address, tmp_path: Path) -> None:
    await crashed_at_random(address, tmp_path, 100)


def batch(ledger: Ledger, children: int) -> Task[Any, Any]:
    """A batch, of children that have a step each, between two steps."""

    def effect(name: str) -> str:
        ledger[name].add(step.idempotency_key)
        return name

    @task
    async def leaf(payload: int) -> int:
        await step("leaf", effect, f"leaf {payload}")
        return payload + 1

    @task
    async def whole(payload: int) -> list[int]:
        await step("begin", effect, "begin")
        made = [r.output for r in (await leaf.batch_trigger_and_wait(range(children))).runs]
        await step("end", effect, "end")
        return made

    return whole


async def batch_ended_at(address: Address, folder: Path, children: int, points: list[int]) -> None:
    """At the parent's step, at its batch, at steps of its children; the executor that dies has some of them."""
    ledger: Ledger = defaultdict(set)
    whole = batch(ledger, children)
    async with open_house(address, folder) as house:
        for last in points:
            ledger.clear()
            mortal = await house.work(last=last)
            async with asyncio.timeout(120):
                assert await whole.trigger_and_wait(0).unwrap() == list(range(1, children + 1)), f"ended at operation {last}"
            assert mortal.died.is_set()
            assert {name: len(keys) for name, keys in ledger.items()} == dict.fromkeys(ledger, 1)
            assert len(ledger) == children + 2
            house.retire()
        rows = await house.runtime.engine.read(lambda tx: tx.all("SELECT task, count(*) FROM runs GROUP BY task ORDER BY task"))
        assert rows == [("leaf", children * len(points)), ("whole", len(points))]


async def test_a_batch_ended_at_some_of_its_points_gives_the_same(address: Address, tmp_path: Path) -> None:
    await batch_ended_at(address, tmp_path, 60, [1, 2, 3, 30, 62])


@pytest.mark.full
async def test_a_batch_of_1_000_ended_at_twenty_points_gives_the_same(address: Address, tmp_path: Path) -> None:
    """Some 40 seconds a database."""
    await batch_ended_at(address, tmp_path, 1_000, [1, 2, 3, *random.Random(7).sample(range(4, 1_002), 16), 1_002])


async def check(house: House, *, times: int = 1) -> None:
    """No child twice, no slot left, no run that is not over."""
    read = house.runtime.engine.read
    async with asyncio.timeout(30):
        while (await read(lambda tx: tx.all("SELECT count(*) FROM runs WHERE finished_at IS NULL")))[0][0]:
            await asyncio.sleep(0.005)
    made = await read(lambda tx: tx.all("SELECT task, count(*) FROM runs GROUP BY task ORDER BY task"))
    assert made == [("chain", 3 * times), ("child", 9 * times), ("parent", times)]
    assert await read(lambda tx: tx.all("SELECT count(*) FROM slots")) == [(0,)]
    assert await read(lambda tx: tx.all("SELECT sum(used), sum(queued) FROM lanes")) == [(0, 0)]
