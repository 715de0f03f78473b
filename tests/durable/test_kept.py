"""What a failed attempt leaves to the next one: its steps; with retry_journal="keep" all that went well."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from outlast import BatchItem, Retry, RunContext, Task, queues, retry, run, runs, step, task, tasks, wait
from outlast.engine import durable
from outlast.errors import ConfigurationError
from outlast.model.requests import Forsake
from outlast.store import check
from tests.databases import Address
from tests.durable.house import House, open_house


def program(house: House, keep: Any, pause: float) -> tuple[Task[Any, Any], Counter[str]]:
    """Fails once at its end, after one of each kind of operation. `made`: how often each was made."""
    made: Counter[str] = Counter()
    began: list[int] = []

    @task
    async def child(payload: str) -> str:
        made[payload] += 1
        if payload == "failed" and made[payload] == 1:
            raise ValueError("the first time")
        return payload

    async def tried(attempt: int) -> str:
        made["tries"] += 1
        if attempt == 1:
            raise ConnectionError
        return "tried"

    def bad() -> None:
        made["bad"] += 1
        if made["bad"] == 1:
            raise LookupError

    @task(retry=Retry(max_attempts=2, min_timeout=pause, max_timeout=pause, randomize=False), retry_journal=keep)
    async def keeps() -> list[Any]:
        began.append(house.clock.at)
        got: list[Any] = [run.uuid4(), await step("step", made.update, ["step"])]
        await child.trigger("plain")
        got.append(await child.trigger_and_wait("waited").unwrap())
        await wait.for_(days=1)
        got += [r.output for r in (await child.batch_trigger_and_wait(["batch"])).runs]
        got.append((await child.trigger_and_wait("failed")).ok)
        won = await wait.first(wait.for_(days=9), wait.for_(days=2))
        got += [won.index, await retry.on_throw(tried, max_attempts=2, min_timeout=1)]
        try:
            await step("bad", bad)
        except LookupError:
            got.append("bad")
        ids.append(str(got[0]))
        if len(began) == 1:
            raise RuntimeError("once")
        return [*got[2:], len(set(ids)), (house.clock.at - began[-1]) // 86_400_000]

    ids: list[str] = []
    return keeps, made


@pytest.mark.parametrize("pause", [0.001, 60.0])  # tried again in its executor, and by way of the queue
async def test_what_is_kept_and_what_is_not(address: Address, tmp_path: Path, pause: float) -> None:
    async with open_house(address, tmp_path) as house:
        for keep in (None, "keep"):
            tasks.clear()
            queues.registry.clear()
            keeps, made = program(house, keep, pause)
            await house.work()
            got = await keeps.trigger_and_wait().unwrap()
            house.retire()
            assert got[:6] == ["waited", "batch", True, 1, "tried", *got[5:6]]
            if keep is None:
                assert got[-2:] == [2, 3]
                assert [made[name] for name in ("step", "plain", "waited", "batch", "failed")] == [1, 2, 2, 2, 2]
            else:
                assert got[-2:] == [1, 0], "recorded values and waits are kept"
                assert [made[name] for name in ("step", "plain", "waited", "batch", "failed")] == [1, 1, 1, 1, 2]
            assert (made["bad"], made["tries"]) == (2, 4), "failures are tried again"


async def test_kept_over_crashes_at_every_operation(address: Address, tmp_path: Path) -> None:
    async with open_house(address, tmp_path) as house:
        operations = 0
        for last in itertools.count():
            tasks.clear()
            queues.registry.clear()
            keeps, made = program(house, "keep", 0.001)
            mortal = await house.work(last=last or None)
            got = await keeps.trigger_and_wait().unwrap()
            house.retire()
            assert got[:2] == ["waited", "batch"] and got[-1] <= 3, f"ended at operation {last}"
            assert (made["step"], made["plain"], made["batch"]) == (1, 1, 1), f"ended at operation {last}"
            operations = operations or mortal.operations
            if last == operations:
                break


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='use "keep"'):
        task(id="x", retry_journal="all")(lambda: None)  # type: ignore[call-overload]


@pytest.mark.parametrize("pause", [0.001, 60.0])
async def test_23_children_of_a_failed_attempt_are_cancelled_when_the_task_says_so(address: Address, tmp_path: Path, pause: float) -> None:
    retry = Retry(max_attempts=2, min_timeout=pause, max_timeout=pause, randomize=False)

    @task
    async def child(payload: str, ctx: RunContext) -> None:
        await wait.for_(days=30)

    async def waits(name: str) -> None:
        await child.trigger_and_wait(name)

    @task(retry=retry, cancel_children_on_retry=True)
    async def parent(ctx: RunContext) -> str:
        await child.trigger("keyed", idempotency_key="k", tags="left")
        if ctx.attempt.number == 2:
            return "done"
        await child.trigger("detached", detached=True, tags="left")
        await child.trigger("plain", tags="gone")
        keyed = BatchItem("batch", idempotency_key="item", tags="left")
        await child.batch_trigger([BatchItem("batch", tags="gone"), keyed, BatchItem("batch", tags="gone")])
        await child.batch_trigger([BatchItem("batch", detached=True, tags="left")])
        waiting = asyncio.ensure_future(waits("waited for"))
        await wait.for_(hours=1)
        try:
            raise RuntimeError("once")
        finally:
            assert not waiting.done()

    async with open_house(address, tmp_path) as house:
        await house.work()
        handle = await parent.trigger()
        assert (await runs.poll(handle)).output == "done"
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE status = 'CANCELED') found WHERE n = 4")
        left = "SELECT count(*) AS n FROM run_tags t JOIN runs r ON r.id = t.run_id WHERE t.tag = 'left' AND r.status <> 'CANCELED'"
        await house.until(f"SELECT 1 FROM ({left}) found WHERE n = 4")
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM work) found WHERE n = 0")
        assert await house.runtime.engine.read(check.violations) == []


async def test_what_was_only_triggered_goes_on_when_its_answer_comes_after_the_race(address: Address, tmp_path: Path) -> None:
    @task
    async def child() -> None: ...

    @task
    async def parent() -> None:
        await child.trigger(delay="1d")
        await wait.for_(days=1)

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        run_id = (await parent.trigger()).id
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED'")
        # as the executor says it of a loser whose operation it has sent, and whose answer it does not know yet
        lost = Forsake(run_id=run_id, epoch=1, journal=1, key="r/trigger:child#0", cancel=True)
        for again, status in ((False, "DELAYED"), (True, "CANCELED")):
            await house.runtime.engine.call(durable.forsake, replace(lost, again=again))
            assert [r.status async for r in runs.list(task="child")] == [status]
