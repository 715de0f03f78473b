"""Traps of the guide by their numbers, beside those of the other files here (1, 8, 9, 18: mismatch; 5, 7: going on; 26: transactions)."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast import Retry, idempotency_key, queue, run, step, task, wait
from outlast.errors import NestedDurableOpError, OutsideRunError, RecursiveWaitDeadlock
from tests.databases import Address
from tests.durable.house import open_house


async def test_2_a_wait_keeps_its_recorded_end_whatever_the_code_computes_now(address: Address, tmp_path: Path) -> None:
    lengths = [timedelta(hours=1), timedelta(days=900)]

    @task
    async def computes() -> str:
        await wait.until(datetime.fromtimestamp(house.clock.at / 1_000, UTC) + lengths.pop(0))
        return "done"

    async with open_house(address, tmp_path) as house:
        began = house.clock.at
        await house.work(replay_every_wait=True)
        assert await computes.trigger_and_wait().unwrap() == "done"
        assert (lengths, house.clock.at - began) == ([], 3_600_000)


async def test_4_a_poll_loop_that_is_replayed_fast_is_named_in_development(address: Address, tmp_path: Path) -> None:
    @task
    async def polls() -> int:
        for _ in range(60):
            await wait.for_(seconds=1)
        return 60

    async with open_house(address, tmp_path, env="dev") as house:
        await house.work()
        handle = await polls.trigger()
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM journal WHERE status = 'ok') found WHERE n > 55")
        house.retire()
        await house.work()
        assert any("waits were replayed in less than a second" in line for line in await house.logs(handle.id))


async def test_10_14_15_16_what_a_step_gives_and_refuses_is_the_same_in_a_replay(address: Address, tmp_path: Path) -> None:
    class Custom(Exception): ...

    def fails() -> None:
        raise Custom("no")

    async def nested() -> None:
        await step("inner", int)

    @task
    async def looks() -> list[Any]:
        got: list[Any] = [await step("tuple", lambda: (1, {2: "x"}))]
        for fn in (fails, nested):
            try:
                await step(fn.__name__, fn)
            except Exception as error:
                got.append(f"{type(error).__name__} {error}")
        seen.append(got)
        await wait.for_(days=1)
        return got

    seen: list[Any] = []
    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        assert (await looks.trigger_and_wait().unwrap())[0] == [1, {"2": "x"}]
        assert len(seen) == 2
        assert seen[0] == seen[1]
        assert "StepFailed" in seen[0][1] and NestedDurableOpError.__name__ in seen[0][2]


async def test_19_20_equal_names_are_told_apart_by_place_and_arguments_by_their_json(address: Address, tmp_path: Path) -> None:
    class Thing:
        """Its repr, id and hash differ each time."""

    done: list[str] = []

    def work(_: Any, name: str) -> str:
        done.append(name)
        return name

    @task
    async def branches() -> list[str]:
        async def branch(name: str) -> str:
            return await step("work", work, {"b": Thing(), "a": {3, 1, 2}}, name)

        got = await asyncio.gather(branch("left"), branch("right"), branch("left"))
        await wait.for_(days=1)
        return list(got)

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        assert await branches.trigger_and_wait().unwrap() == ["left", "right", "left"]
        assert sorted(done) == ["left", "left", "right"]


@pytest.mark.parametrize("key", [None, "tenant"])
async def test_22_parent_and_child_in_one_slot_complete_and_a_circle_is_refused(address: Address, tmp_path: Path, key: str | None) -> None:
    """Behaviour 70, row 54 of security."""
    narrow = queue("narrow", concurrency_limit=1)
    options: dict[str, Any] = {} if key is None else {"concurrency_key": key}

    caught: list[str] = []

    @task(queue=narrow, retry=Retry(max_attempts=3))
    async def child() -> None:
        try:
            await parent.trigger_and_wait(idempotency_key=idempotency_key("me", scope="global"), **options)
        except RecursiveWaitDeadlock as error:
            caught.append(str(error))
            raise

    @task(queue=narrow)
    async def parent() -> Any:
        result = await child.trigger_and_wait(**options)
        return [result.ok, result.error.name]

    async with open_house(address, tmp_path) as house:
        await house.work()
        async with asyncio.timeout(30):
            made = await parent.trigger_and_wait(idempotency_key=idempotency_key("me", scope="global"), **options)
        assert made.output == [False, "RECURSIVE_WAIT_DEADLOCK"]
        assert len(caught) == 1 and "could never end" in caught[0]  # no retry would help


async def test_27_threads_that_the_task_started_are_no_part_of_it(address: Address, tmp_path: Path) -> None:
    @task
    async def starts() -> str:
        said: list[str] = []

        def outside() -> None:
            try:
                run.now()
            except OutsideRunError as error:
                said.append(str(error))

        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
        return said[0]

    async with open_house(address, tmp_path) as house:
        await house.work()
        assert "run.now()" in await starts.trigger_and_wait().unwrap()


@pytest.mark.parametrize("name", ["", "n" * 257, "a\x00b", "\ud800"])
async def test_a_name_that_cannot_be_is_refused(address: Address, tmp_path: Path, name: str) -> None:
    """Row 65 of security."""

    @task
    async def names() -> str:
        try:
            await step(name, int)
        except ValueError as error:
            return str(error)
        return ""

    async with open_house(address, tmp_path) as house:
        await house.work()
        assert "1 to 256 characters" in await names.trigger_and_wait().unwrap()
