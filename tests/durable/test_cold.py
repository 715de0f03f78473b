"""Going cold: by age, by count, at drain. The code does not notice, and a replay gives the same."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

from outlast import RunHandle, Task, runs, step, sync, task, wait
from outlast.worker.parking import PARKED_PER_HOT, WaitLimits
from tests.databases import Address
from tests.durable.house import open_house
from tests.durable.test_crashes import Ledger, check, finish, program

COLD = "SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE execution = 'SUSPENDED' AND held_by IS NULL) AS found WHERE n = "
WAITING = "SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE execution = 'SUSPENDED') AS found WHERE n = "


def sleeper(seen: list[str]) -> Task[Any, Any]:
    def effect(n: int) -> int:
        seen.append("effect")
        return n * 10

    @task
    async def sleeps(payload: int) -> int:
        seen.append("called")
        try:
            made = await step("effect", effect, payload)
            await wait.for_(days=1)
            return made + 1
        finally:
            seen.append("finally")

    return sleeps


async def ended(handle: RunHandle[Any]) -> Any:
    async with asyncio.timeout(30):
        return (await runs.poll(handle)).output


async def test_what_waited_long_enough_is_a_row_and_its_finally_does_not_run(address: Address, tmp_path: Path) -> None:
    seen: list[str] = []
    sleeps = sleeper(seen)
    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(limits=WaitLimits(cold_after=0.02))
        handle = await sleeps.trigger(4)
        await house.until(COLD + "1")
        assert len(house.cores[0].waits.parking) == 1
        assert not house.cores[0].held
        assert seen == ["called", "effect"]
        house.spawn(house.travel())
        assert await ended(handle) == 41
        assert seen == ["called", "effect", "called", "finally"]


async def test_a_cold_run_is_not_offered_to_its_executor_as_one_it_has(address: Address, tmp_path: Path) -> None:
    sleeps = sleeper([])
    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(limits=WaitLimits(cold_after=0.0))
        handle = await sleeps.trigger(1)
        await house.until(COLD + "1")
        house.spawn(house.travel())
        assert await ended(handle) == 11
        kinds = await house.runtime.engine.read(lambda tx: [k for (k,) in tx.all("SELECT kind FROM events ORDER BY n")])
        assert "cold" in kinds
        assert not any("not_held" in kind for kind in kinds)


async def test_beyond_the_limit_the_longest_waiting_go_cold(address: Address, tmp_path: Path) -> None:
    sleeps = sleeper([])
    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(limits=WaitLimits(hot_waits=3))
        handles: list[RunHandle[Any]] = []
        for n in range(5):
            handles.append(await sleeps.trigger(n))
            await house.until(WAITING + str(n + 1))
        await house.until(COLD + "2")
        cold = await house.runtime.engine.read(lambda tx: {i for (i,) in tx.all("SELECT id FROM runs WHERE held_by IS NULL")})
        assert cold == {handle.id for handle in handles[:2]}
        house.spawn(house.travel())
        assert [await ended(handle) for handle in handles] == [1, 11, 21, 31, 41]


async def test_an_executor_with_many_parked_runs_asks_to_be_replaced_once(address: Address, tmp_path: Path) -> None:
    seen: list[str] = []
    sleeps = sleeper(seen)
    full = asyncio.Event()
    asked: list[int] = []
    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(limits=WaitLimits(hot_waits=2))
        parking = house.cores[0].waits.parking
        parking.on_full = lambda: (asked.append(len(parking)), full.set())[1]
        handles = [await sleeps.trigger(n) for n in range(8)]
        async with asyncio.timeout(30):
            await full.wait()
        await house.until(WAITING + "8")
        assert asked == [2 * PARKED_PER_HOT]
        house.retire()  # as the supervisor does: all waiting runs are cold at once
        async with asyncio.timeout(30):
            while len(parking) < 8:  # the server's answer to the last ones may be on its way
                await asyncio.sleep(0.005)
        assert "finally" not in seen
        await house.work()
        house.spawn(house.travel())
        assert [await ended(handle) for handle in handles] == [n * 10 + 1 for n in range(8)]
        assert seen.count("effect") == 8


async def test_a_thread_that_waits_stays_hot(address: Address, tmp_path: Path) -> None:
    seen: list[str] = []

    @task
    def sleeps() -> str:
        seen.append("called")
        sync.wait.for_(days=1)
        return "slept"

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(limits=WaitLimits(cold_after=0.0, hot_waits=1))
        handles = [await sleeps.trigger() for _ in range(2)]
        await house.until(WAITING + "2")
        house.spawn(house.travel())
        assert [await ended(handle) for handle in handles] == ["slept", "slept"]
        assert len(seen) == 2


async def test_a_cold_run_can_be_cancelled(address: Address, tmp_path: Path) -> None:
    seen: list[str] = []
    sleeps = sleeper(seen)
    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(limits=WaitLimits(cold_after=0.0))
        handle = await sleeps.trigger(1)
        await house.until(COLD + "1")
        await runs.cancel(handle)
        assert (await runs.retrieve(handle)).status == "CANCELED"
        assert "finally" not in seen


async def test_cold_at_every_wait_a_program_gives_what_it_gives_hot(address: Address, tmp_path: Path) -> None:
    results: list[Any] = []
    for name, limits in (("hot", WaitLimits()), ("aged", WaitLimits(cold_after=0.0)), ("many", WaitLimits(hot_waits=1))):
        ledger: Ledger = defaultdict(set)
        parent = program(ledger)
        folder = tmp_path / name
        folder.mkdir()
        async with open_house(Address(address.url, f"{address.schema}_{name}"), folder) as house:
            await house.work(limits=limits)
            results.append(await finish(house, parent, "p"))
            assert {name: len(keys) for name, keys in ledger.items()} == dict.fromkeys(ledger, 1)
            await check(house)
    assert results[0] == results[1] == results[2]
