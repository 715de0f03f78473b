"""Cancelling a run that waits: with on_cancel_when_suspended="replay" its code hears of it at its wait, wherever that code is by then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from outlast import RunHandle, Task, runs, step, sync, task, wait
from outlast.model.limits import CLEAN_UP_MS
from outlast.store.check import whole
from outlast.worker.parking import WaitLimits
from tests.databases import Address
from tests.durable.house import House, open_house
from tests.durable.test_cold import COLD, WAITING

OVER = "SELECT 1 FROM runs WHERE execution = 'FINISHED'"
CLEANED = ["cancelled", "finally", "hook"]


class Room:
    """What a task does in it is seen; its clean-up stays in the middle until the door is open."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.door = asyncio.Event()
        self.inside = asyncio.Event()
        self.door.set()

    def task(self, **options: Any) -> Task[None, int]:
        @task(id="tidy", on_cancel_when_suspended="replay", **options)
        async def tidy() -> int:
            self.seen.append("called")
            n = await step("effect", self._effect)
            try:
                await wait.for_(hours=1)
                self.seen.append("went on")
                await wait.for_(days=1)
            except asyncio.CancelledError:
                self.seen.append("cancelled")
                raise
            finally:
                self.inside.set()
                await self.door.wait()
                self.seen.append("finally")
            return n

        @tidy.on_cancel
        async def told() -> None:
            self.seen.append("hook")

        return tidy

    async def comes_inside(self) -> None:
        async with asyncio.timeout(30):
            await self.inside.wait()

    def _effect(self) -> int:
        self.seen.append("effect")
        return 1

    @property
    def since(self) -> list[str]:
        """What happened since the first execution had come to its wait."""
        return self.seen[2:]


async def cancelled(house: House, handle: RunHandle[Any]) -> None:
    """It is CANCELED at once, whatever its code does."""
    await runs.cancel(handle)
    run = await runs.retrieve(handle)
    assert run.status == "CANCELED"
    assert run.finished_at is not None


async def over(house: House) -> None:
    await house.until(OVER)
    assert await house.runtime.engine.read(whole) == []


async def test_a_cold_run_is_replayed_to_its_wait_and_cleans_up(address: Address, tmp_path: Path) -> None:
    room = Room()
    async with open_house(address, tmp_path, travels=False) as house:
        handle = await room.task().trigger()
        await house.work(limits=WaitLimits(cold_after=0.0))
        await house.until(COLD + "1")
        await cancelled(house, handle)
        await over(house)
        assert room.since[0] == "called"
        assert sorted(room.since[1:]) == CLEANED


async def test_a_hot_run_cleans_up_where_it_is(address: Address, tmp_path: Path) -> None:
    room = Room()
    async with open_house(address, tmp_path, travels=False) as house:
        handle = await room.task().trigger()
        await house.work()
        await house.until(WAITING + "1")
        await cancelled(house, handle)
        await over(house)
        assert sorted(room.since) == CLEANED


async def test_a_wait_that_ended_before_anybody_took_the_run_is_where_it_stops(address: Address, tmp_path: Path) -> None:
    room = Room()
    async with open_house(address, tmp_path, travels=False) as house:
        assert house.runtime.upkeep is not None
        handle = await room.task().trigger()
        await house.work(limits=WaitLimits(cold_after=0.0))
        await house.until(COLD + "1")
        house.retire()
        house.clock.at += 3_600_000
        await house.runtime.upkeep.timers()
        await house.until("SELECT 1 FROM runs WHERE execution = 'QUEUED'")
        await cancelled(house, handle)
        await house.work()
        await over(house)
        assert sorted(room.since) == sorted(["called", *CLEANED])


async def test_a_clean_up_survives_the_loss_of_its_executor(address: Address, tmp_path: Path) -> None:
    room = Room()
    async with open_house(address, tmp_path, travels=False) as house:
        handle = await room.task().trigger()
        await house.work(limits=WaitLimits(cold_after=0.0))
        await house.until(COLD + "1")
        house.retire()
        room.door.clear()
        await cancelled(house, handle)
        await house.work()
        await room.comes_inside()
        await house.lose(house.cores[-1])
        house.retire()
        await house.until("SELECT 1 FROM runs WHERE execution = 'QUEUED'")
        room.door.set()
        room.seen.clear()
        await house.work()
        await over(house)
        assert room.seen.count("called") == 1
        assert "effect" not in room.seen
        assert (await runs.retrieve(handle)).status == "CANCELED"


async def test_a_clean_up_that_ends_its_executor_each_time_is_given_up(address: Address, tmp_path: Path) -> None:
    room = Room()
    async with open_house(address, tmp_path, travels=False) as house:
        handle = await room.task().trigger()
        await house.work(limits=WaitLimits(cold_after=0.0))
        await house.until(COLD + "1")
        room.door.clear()
        house.retire()
        await cancelled(house, handle)
        for _ in range(3):
            room.inside.clear()
            await house.work()
            await room.comes_inside()
            await house.lose(house.cores[-1])
            house.retire()
        await over(house)
        room.door.set()  # for those that still stand there
        assert (await runs.retrieve(handle)).status == "CANCELED"


async def test_without_a_worker_it_ends_after_ten_minutes(address: Address, tmp_path: Path) -> None:
    room = Room()
    async with open_house(address, tmp_path, travels=False) as house:
        assert house.runtime.upkeep is not None
        handle = await room.task().trigger()
        await house.work(limits=WaitLimits(cold_after=0.0))
        await house.until(COLD + "1")
        house.retire()
        await cancelled(house, handle)
        house.clock.at += CLEAN_UP_MS
        await house.runtime.upkeep.timers()
        await over(house)
        assert room.since == []


async def test_its_parent_hears_of_the_cancel_before_the_clean_up_and_a_cascade_cleans_up_too(address: Address, tmp_path: Path) -> None:
    room = Room()
    child = room.task()
    heard: list[str] = []

    @task(on_cancel_when_suspended="replay")
    async def parent() -> str:
        try:
            result = await child.trigger_and_wait()
            return result.error.name
        finally:
            heard.append("finally")

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(limits=WaitLimits(cold_after=0.0))
        handle = await parent.trigger()
        await house.until(COLD + "2")
        room.door.clear()
        [one] = [r.id async for r in runs.list(task=child.id)]
        await runs.cancel(one)
        async with asyncio.timeout(30):
            assert (await runs.poll(handle)).output == "TASK_RUN_CANCELLED"
        room.door.set()
        await over(house)
        assert sorted(room.since[1:]) == CLEANED
        room.seen.clear()
        heard.clear()
        again = await parent.trigger()
        await house.until(COLD + "2")
        await cancelled(house, again)
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE execution = 'FINISHED') AS f WHERE n = 4")
        assert heard == ["finally"]
        assert sorted(room.since[1:]) == CLEANED


async def test_a_def_task_hears_of_it_in_its_thread(address: Address, tmp_path: Path) -> None:
    seen: list[str] = []

    @task(on_cancel_when_suspended="replay")
    def sleeps() -> None:
        seen.append("called")
        try:
            sync.wait.for_(days=1)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    async with open_house(address, tmp_path, travels=False) as house:
        handle = await sleeps.trigger()
        await house.work()
        await house.until(WAITING + "1")
        await house.sleep()  # its worker is gone
        await cancelled(house, handle)
        seen.clear()
        await house.work()
        await over(house)
        assert seen == ["called", "RunCancelled"]
