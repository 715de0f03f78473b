"""A replay that does something else than what is recorded: found at the operation where it happens, and said with both places."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from outlast import Retry, Task, runs, step, task, wait
from outlast.errors import UndurableTimeout
from tests.databases import Address
from tests.durable.house import open_house


def nothing() -> None: ...


def alternating(bodies: list[Any]) -> Task[Any, Any]:
    """A task whose code is another each time it is called."""
    left = list(bodies)

    @task(id="changes", retry=Retry(max_attempts=3))
    async def changes() -> Any:
        return await left.pop(0)()

    return changes


async def fails(address: Address, folder: Path, *bodies: Any, env: str = "prod") -> str:
    changes = alternating(list(bodies))
    async with open_house(address, folder, env=env) as house:
        await house.work(replay_every_wait=True)
        result = await changes.trigger_and_wait()
        assert (result.ok, result.error.name, result.error.code) == (False, "JournalMismatch", "JOURNAL_MISMATCH")
        [(attempts, error)] = await house.runtime.engine.read(
            lambda tx: tx.all("SELECT r.attempt, d.error FROM runs r JOIN run_data d ON d.run_id = r.id")
        )
        assert attempts == 1, "a mismatch is not retried by itself"
        assert '"code":"JOURNAL_MISMATCH"' in error
        return result.error.message


async def charges() -> None:
    await step("charge", nothing)
    await step("ship", nothing)
    await wait.for_(days=1)


async def test_another_operation_in_its_place_names_both(address: Address, tmp_path: Path) -> None:
    async def ships() -> None:
        await step("ship", nothing)
        await step("charge", nothing)
        await wait.for_(days=1)

    text = await fails(address, tmp_path, charges, ships)
    assert "stands where another operation was recorded: scope r, operation 0" in text
    assert "recorded=step 'charge' (r/step:charge#0) @ " in text
    assert "got=step 'ship' (r/step:ship#0) @ " in text
    assert text.count("test_mismatch.py:") == 2


async def test_an_operation_that_was_put_in_before_others_is_found(address: Address, tmp_path: Path) -> None:
    """Row 18 of traps: no silent shift to what was recorded for another."""

    async def more() -> None:
        await step("charge", nothing)
        await step("audit", nothing)
        await step("ship", nothing)
        await wait.for_(days=1)

    text = await fails(address, tmp_path, charges, more)
    assert "operation 1: recorded=step 'ship'" in text


async def test_who_catches_a_mismatch_does_not_get_any_further(address: Address, tmp_path: Path) -> None:
    got: list[str] = []

    async def swallows() -> str:
        for _ in range(3):
            try:
                await step("other", nothing)
            except Exception as error:
                got.append(type(error).__name__)
        return "all is well"

    await fails(address, tmp_path, charges, swallows)
    assert got == ["JournalMismatch"] * 3


async def returns() -> str:
    await step("charge", nothing)
    return "early"


async def test_what_is_left_out_at_the_end_fails_in_development(address: Address, tmp_path: Path) -> None:
    text = await fails(address, tmp_path, charges, returns, env="dev")
    assert "the function ended without asking for 2 recorded operations: recorded=step 'ship'" in text


async def test_what_is_left_out_at_the_end_is_said_in_production(address: Address, tmp_path: Path) -> None:
    changes = alternating([charges, returns])
    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        result = await changes.trigger_and_wait()
        assert result.output == "early"
        assert any("without asking for 2 recorded operations" in line for line in await house.logs(result.run_id))


async def test_operations_in_flight_at_a_crash_are_no_mismatch(address: Address, tmp_path: Path) -> None:
    """One scope, many operations at once: those behind may be recorded when those in front are not."""
    order: list[int] = []
    over = [asyncio.Event() for _ in range(5)]

    async def work(n: int) -> int:
        if n < 4:
            await over[n + 1].wait()
        order.append(n)
        over[n].set()
        return n

    @task
    async def gathers() -> list[int]:
        return list(await asyncio.gather(*[step("work", work, n) for n in range(5)]))

    async with open_house(address, tmp_path) as house:
        mortal = await house.work(last=2)
        assert await gathers.trigger_and_wait().unwrap() == [0, 1, 2, 3, 4]
        assert mortal.died.is_set()
        assert order[:2] == [4, 3]


async def test_18_another_version_parks_the_run_until_one_fits(address: Address, tmp_path: Path) -> None:
    def version(second: str) -> Task[Any, Any]:
        @task(id="order")
        async def order() -> str:
            await step("first", nothing)
            await step(second, nothing)
            await wait.for_(seconds=30)
            return second

        return order

    async def next_version(n: int, second: str) -> None:
        from outlast import tasks

        tasks.clear()
        version(second)
        house.retire()
        await house.release(str(n))
        await house.work()

    async with open_house(address, tmp_path, travels=False, env="dev") as house:
        task_one = version("second")
        await house.work(replay_every_wait=True)
        handle = await task_one.trigger()
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED'")
        await next_version(2, "other")
        house.clock.at += 60_000
        assert house.runtime.upkeep is not None
        await house.runtime.upkeep.timers()
        await house.until("SELECT 1 FROM runs WHERE execution = 'PENDING_VERSION' AND status = 'WAITING'")
        [(reason,)] = await house.runtime.engine.read(lambda tx: tx.all("SELECT data FROM events WHERE kind LIKE '%parked%'"))
        assert "JOURNAL_MISMATCH" in reason
        await house.runtime.upkeep.parked()  # the version it does not fit is no reason to try again
        assert (await runs.retrieve(handle)).status == "WAITING"
        await next_version(3, "second")
        await house.runtime.upkeep.parked()
        assert (await runs.poll(handle)).output == "second"
        [(attempt,)] = await house.runtime.engine.read(lambda tx: tx.all("SELECT attempt FROM runs"))
        assert attempt == 1


# ---- clocks that a replay starts anew


@pytest.mark.parametrize("how", ["wait_for", "timeout", "group"])
async def test_a_timeout_of_asyncio_around_a_wait_is_an_error_in_development(address: Address, tmp_path: Path, how: str) -> None:
    """Row 8 of traps."""

    async def sleeps() -> None:
        await wait.for_(days=1)

    async def impatient() -> None:
        if how == "wait_for":
            await asyncio.wait_for(wait.for_(days=1), 0.01)
        elif how == "timeout":
            async with asyncio.timeout(0.01):
                await wait.for_(days=1)
        else:
            async with asyncio.timeout(0.01), asyncio.TaskGroup() as group:
                group.create_task(sleeps())

    @task
    async def impatiently() -> str:
        try:
            await impatient()
        except BaseExceptionGroup as group:
            return str(group.exceptions[0])
        except UndurableTimeout as error:
            return str(error)
        return "nothing"

    async with open_house(address, tmp_path, travels=False, env="dev") as house:
        await house.work()
        text = await impatiently.trigger_and_wait().unwrap()
        assert "use the operation's own timeout=" in text
        assert "test_mismatch.py:" in text


async def test_in_production_it_is_only_said(address: Address, tmp_path: Path) -> None:
    @task
    async def impatiently() -> str:
        try:
            await asyncio.wait_for(wait.for_(days=1), 0.01)
        except TimeoutError:
            return "timed out"
        return ""

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        result = await impatiently.trigger_and_wait()
        assert result.output == "timed out"
        assert any("clock starts anew" in line for line in await house.logs(result.run_id))


async def test_a_wait_that_the_code_cancels_itself_is_no_timeout(address: Address, tmp_path: Path) -> None:
    """Row 9 of traps: it is abandoned, live and in a replay."""

    @task
    async def cancels() -> str:
        async def sleeps() -> None:
            await wait.for_(days=1)

        async def both() -> None:
            await asyncio.gather(sleeps(), sleeps())

        tasks = [asyncio.create_task(sleeps()), asyncio.create_task(both())]
        await step("meanwhile", nothing)
        async with asyncio.timeout(30):
            for one in tasks:
                one.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        await wait.for_(days=2)
        return ",".join(type(e).__name__ for e in ended)

    async with open_house(address, tmp_path, env="dev") as house:
        await house.work(replay_every_wait=True)
        assert await cancels.trigger_and_wait().unwrap() == "CancelledError,CancelledError"


async def test_what_is_left_of_an_earlier_attempt_records_nothing(address: Address, tmp_path: Path) -> None:
    """A retry in place keeps the epoch: the attempt's own journal number is the fence."""
    late: list[asyncio.Task[Any]] = []
    gate = asyncio.Event()
    said: list[BaseException | None] = []

    async def slow() -> str:
        await gate.wait()
        return "late"

    async def leftover() -> None:
        try:
            await step("slow", slow)
        except BaseException as error:
            said.append(error)

    @task(retry=Retry(max_attempts=2, min_timeout=0.001, max_timeout=0.001, randomize=False))
    async def retried() -> str:
        if not late:
            late.append(asyncio.create_task(leftover()))
            await asyncio.sleep(0)
            raise ValueError("first")
        gate.set()
        await asyncio.wait(late)
        await step("now", nothing)
        return "done"

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        assert await retried.trigger_and_wait().unwrap() == "done"
        rows = await house.runtime.engine.read(lambda tx: tx.all("SELECT key, journal FROM journal"))
        assert rows == [("r/step:now#0", 2)]
        assert [type(e).__name__ for e in said] == ["OutsideRunError"]


async def test_other_inputs_in_a_replay_are_a_mismatch_that_names_both_places(address: Address, tmp_path: Path) -> None:
    calls: list[int] = []

    def charge(amount: int) -> int:
        return amount

    @task(retry=Retry(max_attempts=3))
    async def varies() -> None:
        calls.append(1)
        await step("charge", charge, len(calls))  # another argument each time the code runs
        await wait.for_(days=1)

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        result = await varies.trigger_and_wait()
        assert (result.ok, result.error.name) == (False, "JournalMismatch")
        assert result.error.message.count("test_mismatch.py:") == 2
        assert "r/step:charge#0" in result.error.message
        assert len(calls) == 2, "a mismatch is not retried by itself"
