"""Trying again, going on as another run, stopping early, and what hooks hear of waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from outlast import Retry, idempotency, idempotency_key, retry, run, runs, step, sync, task, wait
from outlast.errors import InvalidValue, NotFound, StepFailed
from tests.databases import Address
from tests.durable.house import House, open_house


async def sql(house: House, query: str) -> list[Any]:
    return await house.runtime.engine.read(lambda tx: tx.all(query))


# ---- retry


@pytest.mark.parametrize("replay", [False, True])
async def test_a_try_that_failed_before_a_pause_is_not_made_again_in_a_replay(address: Address, tmp_path: Path, replay: bool) -> None:
    tries: list[int] = []

    async def flaky(attempt: int) -> str:
        got = await step("inside", int)
        tries.append(attempt)
        if attempt < 3:
            raise ConnectionError("away")
        return f"attempt {attempt}, {got}"

    @task
    async def stubborn() -> str:
        made = await retry.on_throw(flaky, max_attempts=4, min_timeout=3_600, max_timeout=7_200)
        await wait.for_(days=1)
        return made

    async with open_house(address, tmp_path, env="prod") as house:
        await house.work(replay_every_wait=replay)
        assert await stubborn.trigger_and_wait().unwrap() == "attempt 3, 0"
        assert tries == ([1, 2, 3] if not replay else [1, 2, 3, 3])
        assert await sql(house, "SELECT count(*) FROM journal WHERE label = 'retry' AND kind = 'wait'") == [(2,)]


async def test_the_last_error_is_raised_and_abort_is_at_once(address: Address, tmp_path: Path) -> None:
    from outlast import AbortTaskRun

    tries: list[str] = []

    def fails() -> None:
        tries.append("fails")
        raise KeyError("gone")

    def aborts() -> None:
        tries.append("aborts")
        raise AbortTaskRun("no")

    @task
    async def stubborn() -> list[str]:
        got: list[str] = []
        for fn in (fails, aborts):
            try:
                await retry.on_throw(fn, max_attempts=2, min_timeout=0.001, max_timeout=0.001)
            except Exception as error:
                got.append(type(error).__name__)
        return got

    async with open_house(address, tmp_path) as house:
        await house.work()
        assert await stubborn.trigger_and_wait().unwrap() == ["KeyError", "AbortTaskRun"]
        assert tries == ["fails", "fails", "aborts"]


async def test_a_request_is_tried_again_by_its_status_and_its_headers(address: Address, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        n = asked.count(request.url.path)
        match request.url.path:
            case "/busy" if n == 1:
                return httpx.Response(429, headers={"x-reset": str(time.time() + 3_600)})
            case "/broken":
                return httpx.Response(503, text="maintenance" if n < 3 else "for ever")
            case "/away" if n == 1:
                raise httpx.ConnectError("away")
        return httpx.Response(200, json={"n": n})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    quick = retry.backoff(max_attempts=5, min_timeout=0.001, max_timeout=0.001, body_filter=lambda text: text == "maintenance")

    @task
    async def fetches() -> list[int]:
        rules = {"429": retry.headers(reset="x-reset"), "500-599": quick}
        got = [(await retry.fetch(f"http://x{path}", by_status=rules, client=client)).status_code for path in ("/busy", "/broken", "/ok")]
        away = await retry.fetch("http://x/away", connection_error=retry.backoff(min_timeout=0.001, max_timeout=0.001), client=client)
        got.append(away.status_code)
        try:
            await retry.fetch("http://x/broken", by_status={"5xx": retry.backoff(max_attempts=1)}, client=client)
        except httpx.HTTPStatusError as error:
            got.append(error.response.status_code)
        return got

    async with open_house(address, tmp_path) as house:
        await house.work()
        assert await fetches.trigger_and_wait().unwrap() == [200, 503, 200, 200, 503]
        assert [asked.count(p) for p in ("/busy", "/broken", "/away")] == [2, 4, 2]
    with pytest.raises(InvalidValue, match="is no status"):
        retry.fetch("http://x/", by_status={"many": quick})
    await client.aclose()


# ---- idempotency


async def test_a_key_that_is_reset_makes_a_new_run(address: Address, tmp_path: Path) -> None:
    @task
    async def once() -> None: ...

    @task
    async def parent() -> bool:
        key = idempotency_key("mine")
        first = await once.trigger(idempotency_key=key)
        await idempotency.reset("once", key)
        return (await once.trigger(idempotency_key=key)).id != first.id

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        first = await once.trigger(idempotency_key="k")
        assert (await once.trigger(idempotency_key="k")).is_cached
        await idempotency.reset("once", "k")
        second = await once.trigger(idempotency_key="k")
        assert (second.is_cached, second.id == first.id) == (False, False)
        with pytest.raises(NotFound):
            await idempotency.reset("once", "never")
        with pytest.raises(InvalidValue, match="parent_run_id"):
            idempotency.reset("once", "k", scope="run")
        with pytest.raises(InvalidValue, match="attempt_number"):
            idempotency.reset("once", "k", scope="attempt", parent_run_id="run_1")
        assert await parent.trigger_and_wait().unwrap()


# ---- continue_as


@pytest.mark.parametrize("replay", [False, True])
async def test_a_run_goes_on_as_another_and_who_waits_is_given_that(address: Address, tmp_path: Path, replay: bool) -> None:
    ended: list[int] = []

    @task
    async def counts(payload: int) -> int:
        try:
            await wait.for_(hours=1)
            if payload > 0:
                try:
                    await run.continue_as(payload - 1)
                except Exception:
                    ended.append(-1)
            return payload + 100
        finally:
            ended.append(payload)

    @task
    async def parent() -> list[Any]:
        one = await counts.trigger_and_wait(2, idempotency_key=idempotency_key("one", scope="global"), tags=["t:1"])
        again = await counts.trigger_and_wait(9, idempotency_key=idempotency_key("one", scope="global"))
        many = await counts.batch_trigger_and_wait([1, 0])
        return [one.output, again.output, [r.output for r in many.runs]]

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=replay)
        assert await parent.trigger_and_wait().unwrap() == [100, 100, [100, 100]]
        assert sorted(ended) == [0, 0, 0, 1, 1, 2]
        handle = await counts.trigger(1)
        old = await runs.poll(handle)
        assert old.status == "COMPLETED"
        fresh = await runs.poll(old.output["continued_as"])
        assert (fresh.output, fresh.version) == (100, old.version)


# ---- stopping


async def test_long_code_stops_at_a_checkpoint(address: Address, tmp_path: Path) -> None:
    seen: list[str] = []

    @task
    def busy() -> None:
        seen.append("began")
        try:
            while True:
                time.sleep(0.002)
                sync.run.checkpoint()
        except Exception as error:
            seen.append(type(error).__name__)
            raise

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await busy.trigger()
        while not seen:
            await asyncio.sleep(0.005)
        await runs.cancel(handle)
        await house.until("SELECT 1 FROM runs WHERE execution = 'FINISHED'")
        assert seen == ["began", "RunCancelled"]


async def test_who_swallows_a_cancel_is_cancelled_at_the_next_operation(address: Address, tmp_path: Path) -> None:
    """Row 7 of traps."""
    seen: list[str] = []

    @task
    async def stubborn() -> None:
        for _ in range(3):
            try:
                seen.append("waits")
                await wait.for_(days=1)
            except BaseException as error:
                seen.append(type(error).__name__)

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await stubborn.trigger()
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED'")
        await runs.cancel(handle)
        async with asyncio.timeout(30):
            while len(seen) < 6:
                await asyncio.sleep(0.005)
        assert seen == ["waits", "CancelledError"] * 3


async def test_detached_children_outlive_a_cancel(address: Address, tmp_path: Path) -> None:
    @task
    async def child() -> None:
        await wait.for_(days=1)

    @task
    async def parent() -> None:
        await child.trigger(detached=True, tags="free")
        await child.trigger()
        await wait.for_(days=2)

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await parent.trigger()
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE execution = 'SUSPENDED') found WHERE n = 3")
        await runs.cancel(handle)
        await house.runtime.upkeep.work() if house.runtime.upkeep else None
        found = await sql(house, "SELECT detached, status FROM runs WHERE parent_id IS NOT NULL ORDER BY detached")
        assert found == [(0, "CANCELED"), (1, "WAITING")]


async def test_losers_of_a_race_are_cancelled_when_asked(address: Address, tmp_path: Path) -> None:
    @task
    async def child(payload: int) -> int:
        await wait.for_(hours=payload)
        return payload

    @task
    async def racer() -> int:
        won = await wait.first(
            child.trigger_and_wait(5), child.trigger_and_wait(1), child.batch_trigger_and_wait([7, 8]), cancel_losers=True
        )
        return won.index

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await racer.trigger()
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE execution = 'SUSPENDED') found WHERE n = 5")
        house.clock.advance(seconds=3_600)
        assert house.runtime.upkeep is not None
        await house.runtime.upkeep.timers()
        assert (await runs.poll(handle)).output == 1
        async with asyncio.timeout(30):
            while (await sql(house, "SELECT count(*) FROM runs WHERE status = 'CANCELED'")) != [(3,)]:
                await house.runtime.upkeep.work()
                await asyncio.sleep(0.005)


# ---- batches made on demand


@pytest.mark.parametrize("replay", [False, True])
async def test_items_made_on_demand_are_streamed_in_order(address: Address, tmp_path: Path, replay: bool) -> None:
    @task
    async def child(payload: int) -> int:
        return payload

    @task
    async def parent() -> list[Any]:
        async def items() -> AsyncIterator[int]:
            for n in range(1_100):
                yield n

        results = await child.batch_trigger_and_wait(items())
        made = await child.batch_trigger(n for n in range(3))
        await wait.for_(days=1)
        return [[r.output for r in results.runs] == list(range(1_100)), made.run_count]

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=replay, async_slots=250)
        assert await parent.trigger_and_wait().unwrap() == [True, 3]
        assert await sql(house, "SELECT count(*) FROM runs") == [(1 + 1_100 + 3,)]


# ---- hooks around waits


async def test_hooks_hear_of_each_wait_once(address: Address, tmp_path: Path) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []

    @task
    async def child() -> int:
        return 1

    @task
    async def parent() -> None:
        await wait.for_(hours=1)
        await child.trigger_and_wait()
        await child.batch_trigger_and_wait([None, None])
        token = await wait.create_token(timeout="1h")
        await wait.for_token(token)
        await step("no wait", int)

    @parent.on_wait
    def closes(wait: dict[str, Any]) -> None:
        heard.append(("on_wait", wait))

    @parent.on_resume
    async def opens(wait: dict[str, Any]) -> None:
        heard.append(("on_resume", wait))
        raise ValueError("changes nothing")

    async with open_house(address, tmp_path) as house:
        await house.work()
        await parent.trigger_and_wait().unwrap()
        assert [kind for kind, _ in heard] == ["on_wait", "on_resume"] * 4
        told = [wait for kind, wait in heard if kind == "on_wait"]
        assert [w["type"] for w in told] == ["duration", "task", "batch", "token"]
        assert isinstance(told[0]["date"], datetime)
        assert told[1]["run_id"].startswith("run_")
        assert (told[2]["batch_id"].startswith("batch_"), told[2]["run_count"]) == (True, 2)


# ---- max_duration


async def test_active_time_is_carried_over_a_cold_wait_and_a_replay_is_not_counted(address: Address, tmp_path: Path) -> None:
    executions: list[int] = []

    @task(max_duration=5)
    async def works() -> None:
        executions.append(1)
        await asyncio.sleep(0.5)
        await wait.for_(days=1)
        await asyncio.sleep(0.05)

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        await works.trigger_and_wait()
        assert len(executions) == 2
        [(kept, usage)] = await sql(house, "SELECT attempt_ms, usage_ms FROM runs")
        assert kept >= 500
        assert kept + 50 <= usage < kept + 50 + 500, "the 500 ms of the replay are not counted"


# ---- a failed attempt whose journal is kept or not


async def test_a_step_with_other_arguments_is_run_again_by_the_next_attempt(address: Address, tmp_path: Path) -> None:
    calls: list[int] = []

    def charge(amount: int) -> int:
        calls.append(amount)
        return amount

    @task(retry=Retry(max_attempts=2, min_timeout=0.001, max_timeout=0.001))
    async def varies() -> int:
        got = await step("charge", charge, len(calls))
        if got == 0:
            raise StepFailed("again")
        return got

    async with open_house(address, tmp_path) as house:
        await house.work()
        result = await varies.trigger_and_wait()
        assert (result.output, calls) == (1, [0, 1])
        assert any("is run again" in line for line in await house.logs(result.run_id))
