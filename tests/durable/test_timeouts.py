"""`timeout=` of every wait: a wait that was over too early is a result, and the same one in every replay."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast import Retry, runs, step, task, wait
from outlast.errors import InvalidValue, Unprocessable, WaitTimedOut
from outlast.results import TimedOut
from tests.databases import Address
from tests.durable.house import House, open_house

WAIT_TIMERS = "SELECT count(*) FROM timers WHERE kind = 'wait'"


async def timers(house: House) -> int:
    return (await house.runtime.engine.read(lambda tx: tx.all(WAIT_TIMERS)))[0][0]


@pytest.mark.parametrize("replay", [False, True])
async def test_each_wait_can_time_out_and_a_replay_gives_the_same(address: Address, tmp_path: Path, replay: bool) -> None:
    """Row of traps 8: the timeout is in the journal, not on a clock that starts anew."""

    @task
    async def child(payload: int) -> int:
        await wait.for_(hours=payload)
        return payload

    @task
    async def parent() -> list[Any]:
        late = await child.trigger_and_wait(5, timeout="1h")
        early = await child.trigger_and_wait(1, timeout="2h")
        batch = await child.batch_trigger_and_wait([0, 9, 0, 8], timeout=3_600)
        token = await wait.create_token()
        nobody = await wait.for_token(token, timeout="30m")
        raised = ""
        try:
            await child.trigger_and_wait(7, timeout="10m").unwrap()
        except WaitTimedOut as error:
            raised = str(error)
        await wait.for_(days=2)  # by now everything is over; what was late stays late
        return [
            isinstance(late, TimedOut), late.error.name, early.output,
            [r.output if r.ok else r.error.name for r in batch.runs], nobody.error.name, "had a timeout" in raised,
        ]  # fmt: skip

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=replay)
        expected = [True, "WaitTimedOut", 1, [0, "WaitTimedOut", 0, "WaitTimedOut"], "WaitTimedOut", True]
        assert await parent.trigger_and_wait().unwrap() == expected
        assert await timers(house) == 0


async def test_what_came_in_time_leaves_no_timer(address: Address, tmp_path: Path) -> None:
    @task
    async def child() -> int:
        return 1

    @task
    async def parent() -> int:
        token = await wait.create_token()
        await wait.complete_token(token, 5)
        return await child.trigger_and_wait(timeout="9d").unwrap() + (await wait.for_token(token, timeout="9d")).output

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        assert await parent.trigger_and_wait().unwrap() == 6
        assert await timers(house) == 0


async def test_abandoned_and_cancelled_waits_leave_no_timer(address: Address, tmp_path: Path) -> None:
    @task
    async def races() -> None:
        async def sleeps() -> None:
            await wait.for_(days=3)

        won = await wait.first(wait.for_(days=9), wait.for_(seconds=0), wait.for_(days=8))
        assert won.index == 1
        abandoned = asyncio.create_task(sleeps())
        await step("between", int)
        abandoned.cancel()
        await wait.for_(days=4)

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await races.trigger()
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED' AND seen_seq >= 3")
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM timers WHERE kind = 'wait') found WHERE n = 1")
        await runs.cancel(handle)
        assert await timers(house) == 0


@pytest.mark.parametrize("replay", [False, True])
async def test_a_race_has_a_timeout_of_its_own(address: Address, tmp_path: Path, replay: bool) -> None:
    @task
    async def racer() -> list[Any]:
        got: list[Any] = []
        for race in (wait.first, wait.any):
            try:
                await race(wait.for_(days=3), wait.for_(days=2), timeout="1d")
            except WaitTimedOut as error:
                got.append("nothing came within 1d" in str(error))
        got.append((await wait.first(wait.for_(days=3), wait.for_(hours=2), timeout="1d")).index)
        try:
            async for index, _ in wait.as_completed(wait.for_(hours=1), wait.for_(days=3), timeout="1d"):
                got.append(index)
        except WaitTimedOut:
            got.append("late")
        return got

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=replay)
        assert await racer.trigger_and_wait().unwrap() == [True, True, 1, 0, "late"]


async def test_outside_of_a_task_a_timeout_ends_the_wait_and_not_the_run(address: Address, tmp_path: Path) -> None:
    @task
    async def slow() -> str:
        await wait.for_(days=1)
        return "done"

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        result = await slow.trigger_and_wait(timeout=0.01)
        assert (result.ok, result.error.name) == (False, "WaitTimedOut")
        house.spawn(house.travel())
        assert (await runs.poll(result.run_id)).output == "done"


async def test_a_timeout_that_cannot_be_is_refused_by_name(address: Address, tmp_path: Path) -> None:
    @task
    async def child() -> None: ...

    for timeout in ("soon", -1, float("nan"), 1e12):
        with pytest.raises(InvalidValue, match="timeout="):
            child.trigger_and_wait(timeout=timeout)


async def test_months_and_years_are_those_of_the_calendar(address: Address, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    @task
    async def sleeper() -> None:
        await wait.for_(months=1)
        await wait.for_(years=1, days=1)

    async with open_house(address, tmp_path) as house:
        house.clock.at = round(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp() * 1_000)
        await house.work()
        with pytest.raises(InvalidValue, match="ten years"):
            wait.for_(months=200)
        await sleeper.trigger_and_wait().unwrap()
        assert datetime.fromtimestamp(house.clock.at / 1_000, UTC).date().isoformat() == "2028-02-29"


async def test_a_date_in_the_past_is_refused_when_asked_and_the_refusal_is_recorded(address: Address, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    tries: list[int] = []

    @task
    async def late() -> str:
        tries.append(1)
        await wait.until(datetime(2020, 1, 1, tzinfo=UTC))  # over at once
        try:
            await wait.until(datetime(2020, 1, 1, tzinfo=UTC), throw_if_in_the_past=True)
        except Unprocessable as error:
            await wait.for_(days=1)
            return str(error)
        return ""

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        assert "in the past" in await late.trigger_and_wait().unwrap()
        assert len(tries) == 2


@pytest.mark.parametrize("ttl", [None, "2h"])
async def test_a_wait_whose_key_was_used_is_not_waited_for_again(address: Address, tmp_path: Path, ttl: str | None) -> None:
    """features.md 4.1 and 4.2."""
    waited: list[float] = []

    @task(retry=Retry(max_attempts=3, min_timeout=0.001))
    async def again() -> list[float]:
        began = house.clock.at
        await wait.for_(days=1, idempotency_key="pause", idempotency_key_ttl=ttl)
        middle = house.clock.at
        await wait.until(datetime.fromtimestamp(middle / 1_000, UTC) + timedelta(hours=1), idempotency_key=["pause", "until"])
        waited.extend([(middle - began) / 3_600_000, (house.clock.at - middle) / 3_600_000])
        if len(waited) < 4:
            raise RuntimeError("once more")
        return waited

    async with open_house(address, tmp_path) as house:
        await house.work()
        assert await again.trigger_and_wait().unwrap() == [24, 1, 24 if ttl else 0, 0]
        waited.clear()
        assert (await again.trigger_and_wait().unwrap())[:2] == [24, 1], "inside a task a raw key counts within its run"
