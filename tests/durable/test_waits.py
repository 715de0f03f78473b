"""Waiting inside a task, in one process on both databases: children, batches, time, steps, recorded values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast import Outlast, queue, run, runs, step, sync, task, wait
from outlast.errors import StepFailed
from tests.databases import Address


@pytest.fixture
async def app(address: Address, tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Outlast] = []

    async def start() -> Outlast:
        outlast = Outlast(database=address.url if address.is_postgres else None, schema=address.schema, data=tmp_path / "data")
        await outlast.start()
        made.append(outlast)
        return outlast

    yield start
    for outlast in made:
        await outlast.stop()


async def test_a_parent_waits_for_its_child_and_gets_its_output(app: Any) -> None:
    @task
    async def child(payload: int) -> int:
        return payload * 2

    @task
    async def parent(payload: int) -> list[int]:
        first = await child.trigger_and_wait(payload).unwrap()
        return [first, (await child.trigger_and_wait(first)).output]

    await app()
    assert await parent.trigger_and_wait(3).unwrap() == [6, 12]


async def test_parent_and_child_share_a_queue_of_one_slot(app: Any) -> None:
    narrow = queue("narrow", concurrency_limit=1)

    @task(queue=narrow)
    async def child(payload: int) -> int:
        return payload + 1

    @task(queue=narrow)
    async def parent() -> int:
        return await child.trigger_and_wait(1).unwrap()

    await app()
    async with asyncio.timeout(20):
        assert await parent.trigger_and_wait().unwrap() == 2


async def test_a_failing_child_is_a_result_and_unwrap_raises(app: Any) -> None:
    @task
    async def child() -> None:
        raise ValueError("no luck")

    @task
    async def parent() -> list[str]:
        result = await child.trigger_and_wait()
        return [str(result.ok), result.error.name, result.error.message]

    await app()
    assert await parent.trigger_and_wait().unwrap() == ["False", "ValueError", "no luck"]


async def test_waits_in_parallel(app: Any) -> None:
    @task
    async def child(payload: int) -> int:
        return payload

    @task
    async def parent() -> list[int]:
        a = await asyncio.gather(*[child.trigger_and_wait(i).unwrap() for i in range(20)])
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(child.trigger_and_wait(i).unwrap()) for i in range(5)]
        return [*a, *[t.result() for t in made]]

    await app()
    assert await parent.trigger_and_wait().unwrap() == [*range(20), *range(5)]


async def test_a_batch_is_waited_for_in_the_order_of_its_items(app: Any) -> None:
    @task
    async def child(payload: int) -> int:
        if payload == 7:
            raise ValueError("seven")
        return payload

    @task
    async def parent() -> list[Any]:
        result = await child.batch_trigger_and_wait(range(50))
        return [r.output if r.ok else r.error.message for r in result.runs]

    await app()
    assert await parent.trigger_and_wait().unwrap() == [i if i != 7 else "seven" for i in range(50)]


async def test_a_wait_ends_when_its_time_has_come_and_holds_no_slot(app: Any) -> None:
    @task(queue=queue("one", concurrency_limit=1))
    async def sleeper() -> float:
        before = run.now()
        await wait.for_(seconds=1)
        await wait.until(before + timedelta(seconds=1))
        return (run.now() - before).total_seconds()

    await app()
    handles = [await sleeper.trigger() for _ in range(5)]
    async with asyncio.timeout(20):
        done = [await runs.poll(h) for h in handles]
    assert all(1 <= r.output < 4 for r in done)


async def test_blocking_waits_in_def_tasks(app: Any) -> None:
    @task
    def child(payload: int) -> int:
        return payload * 2

    @task
    def parent(payload: int) -> list[int]:
        sync.wait.for_(seconds=0.01)
        one = child.sync.trigger_and_wait(payload).unwrap()
        two = sync.step("add", lambda x: x + 1, one)
        return [one, two, *[r.output for r in child.sync.batch_trigger_and_wait([1, 2]).runs]]

    await app()
    assert await parent.trigger_and_wait(5).unwrap() == [10, 11, 2, 4]


async def test_steps_run_once_and_give_what_a_replay_would_see(app: Any) -> None:
    calls: list[str] = []

    async def charge(amount: int) -> dict[str, Any]:
        calls.append(step.idempotency_key)
        return {"amount": amount, "parts": (1, 2)}

    def flaky() -> str:
        calls.append("flaky")
        if calls.count("flaky") < 3:
            raise ConnectionError("away")
        return "ok"

    class Custom(Exception):
        pass

    async def broken() -> None:
        raise Custom("never")

    async def wrong() -> None:
        raise KeyError("gone")

    @task
    async def parent() -> list[Any]:
        first = await step("charge", charge, 7)
        second = await step("charge", charge, 7)
        got: list[Any] = [first, second, await step("flaky", flaky, retries=2)]
        for fn in (broken, wrong):
            try:
                await step(fn.__name__, fn)
            except (StepFailed, KeyError) as error:
                got.append(f"{type(error).__name__}: {error}")
        return got

    await app()
    found = await parent.trigger_and_wait().unwrap()
    assert found[:3] == [{"amount": 7, "parts": [1, 2]}, {"amount": 7, "parts": [1, 2]}, "ok"]
    assert found[3:] == ["StepFailed: step 'broken' failed: Custom: never", "KeyError: \"'gone'\""]
    assert len({key for key in calls if key != "flaky"}) == 2
    assert calls.count("flaky") == 3


async def test_a_retry_of_the_task_keeps_steps_and_drops_the_rest(app: Any) -> None:
    done: list[str] = []

    def once() -> int:
        done.append("step")
        return len(done)

    @task
    async def child() -> str:
        done.append("child")
        return "c"

    from outlast import Retry

    @task(retry=Retry(max_attempts=2, min_timeout=0.01, max_timeout=0.02))
    async def parent() -> int:
        made = await step("once", once)
        await child.trigger_and_wait()
        if done.count("child") < 2:
            raise ValueError("again")
        return made

    await app()
    assert await parent.trigger_and_wait().unwrap() == 1
    assert done == ["step", "child", "child"]


async def test_recorded_values_are_of_their_types(app: Any) -> None:
    @task
    async def parent() -> list[str]:
        return [type(run.now()).__name__, type(run.random()).__name__, str(run.uuid4().version), str(run.now().tzinfo is not None)]

    await app()
    assert await parent.trigger_and_wait().unwrap() == ["datetime", "float", "4", "True"]


async def test_a_waiting_run_can_be_cancelled(app: Any) -> None:
    ended: list[str] = []

    @task
    async def sleeper() -> None:
        try:
            await wait.for_(days=30)
        finally:
            ended.append("finally")

    await app()
    handle = await sleeper.trigger()
    async with asyncio.timeout(20):
        while (await runs.retrieve(handle)).status != "WAITING":
            await asyncio.sleep(0.02)
        await runs.cancel(handle)
        assert (await runs.poll(handle)).status == "CANCELED"
        while not ended:
            await asyncio.sleep(0.02)
