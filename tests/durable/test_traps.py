"""What goes wrong in durable code, and how it is said: traps of the guide, live and replayed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from outlast import Retry, run, runs, step, task, wait
from tests.databases import Address
from tests.durable.house import open_house


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
        assert result.error.message.count("test_traps.py:") == 2
        assert "r/step:charge#0" in result.error.message
        assert len(calls) == 2, "a mismatch is not retried by itself"


async def test_nothing_is_raised_into_the_code_to_suspend_it(address: Address, tmp_path: Path) -> None:
    seen: list[str] = []

    @task
    async def careful() -> str:
        try:
            await wait.for_(days=1)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        finally:
            seen.append("finally")
        return "done"

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        assert await careful.trigger_and_wait().unwrap() == "done"
        assert seen == ["finally"]


async def test_recorded_values_decide_the_same_way(address: Address, tmp_path: Path) -> None:
    made: list[tuple[float, Any]] = []

    @task
    async def decides() -> str:
        lucky, now, key = run.random(), run.now(), run.uuid4()
        made.append((lucky, (now, key)))
        await wait.for_(hours=1)
        return "heads" if lucky > 0.5 else "tails"

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        await decides.trigger_and_wait()
        assert len(made) == 2
        assert made[0] == made[1]


async def test_a_loop_over_an_unordered_collection_with_keys_gives_each_its_own(address: Address, tmp_path: Path) -> None:
    orders = [["a", "b", "c"], ["c", "a", "b"]]

    def send(user: str) -> str:
        return f"sent {user}"

    @task
    async def mails() -> dict[str, str]:
        users = orders.pop(0)
        got = {user: await step("mail", send, user, key=user) for user in users}
        await wait.for_(days=1)
        return got

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        assert await mails.trigger_and_wait().unwrap() == {u: f"sent {u}" for u in "abc"}
        assert orders == []


async def test_a_result_changed_after_its_step_is_whole_in_a_replay(address: Address, tmp_path: Path) -> None:
    def listed() -> list[int]:
        return [1]

    @task
    async def appends() -> list[int]:
        got = await step("listed", listed)
        got.append(2)
        await wait.for_(days=1)
        return got

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        assert await appends.trigger_and_wait().unwrap() == [1, 2]


async def test_which_of_two_failing_children_surfaces_is_recorded(address: Address, tmp_path: Path) -> None:
    @task
    async def fails(payload: int) -> None:
        await wait.for_(hours=payload)
        raise ValueError(f"child {payload}")

    @task
    async def parent() -> str:
        try:
            await asyncio.gather(fails.trigger_and_wait(2).unwrap(), fails.trigger_and_wait(1).unwrap())
        except Exception as error:
            await wait.for_(days=1)
            return str(error).rpartition(": ")[2]
        return ""

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=True)
        assert await parent.trigger_and_wait().unwrap() == "child 1"


async def test_a_child_made_by_a_key_that_was_used_is_waited_for(address: Address, tmp_path: Path) -> None:
    from outlast import idempotency_key

    @task
    async def child(payload: int) -> int:
        await wait.for_(hours=1)
        return payload

    @task
    async def parent(payload: int) -> int:
        return await child.trigger_and_wait(payload, idempotency_key=idempotency_key("shared", scope="global")).unwrap()

    async with open_house(address, tmp_path) as house:
        await house.work()
        handles = [await parent.trigger(n) for n in (1, 2, 3)]
        assert [(await runs.poll(h)).output for h in handles] == [1, 1, 1]
        assert await parent.trigger_and_wait(4).unwrap() == 1
