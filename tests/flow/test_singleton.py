"""Singleton tasks: one run that is not over, per task and concurrency key."""

from __future__ import annotations

from typing import Any, Literal

from outlast.engine import triggers
from outlast.model.manifest import TaskDefinition
from outlast.model.refusal import Refusal
from outlast.model.requests import Trigger
from outlast.model.run import Status
from outlast.store import gates
from tests.engine.house import House


def single(mode: Literal["skip", "queue", "cancel_previous"]) -> TaskDefinition:
    return TaskDefinition(id="t", singleton=mode)


async def test_skip_answers_with_the_run_that_is_there(house: House) -> None:
    await house.work(single("skip"))
    first = await house.trigger()
    again: Any = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t"))
    assert not isinstance(again, Refusal)
    assert (again.run_id, again.is_cached, again.is_skipped) == (first, True, True)
    [running] = await house.claim(5)
    assert await house.trigger() == first
    await house.end(running)
    assert await house.trigger() != first


async def test_each_concurrency_key_is_a_singleton_of_its_own(house: House) -> None:
    await house.work(single("skip"))
    made = [await house.trigger(concurrency_key=key) for key in ("a", "b", "a", "b")]
    assert len(set(made)) == 2


async def test_queue_lets_one_in_at_a_time_in_order_also_while_one_waits(house: House) -> None:
    await house.work(single("queue"))
    made = [await house.trigger() for _ in range(4)]
    assert [(await house.run(r)).status for r in made] == [Status.QUEUED, Status.DELAYED, Status.DELAYED, Status.DELAYED]
    await house.cancel(made[1])
    for expected in (made[0], made[2], made[3]):
        [running] = await house.claim(5)
        assert running.run.id == expected
        await house.end(running)
        await house.upkeep.work()
    assert await house.claim(5) == []


async def test_a_cancelled_holder_lets_the_next_in_only_when_its_code_has_stopped(house: House) -> None:
    await house.work(single("queue"))
    first, second = await house.trigger(), await house.trigger()
    [running] = await house.claim(5)
    await house.cancel(first)
    await house.upkeep.work()
    assert (await house.run(second)).status is Status.DELAYED
    await house.end(running, "cancelled")
    await house.upkeep.work()
    assert [c.run.id for c in await house.claim(5)] == [second]


async def test_a_delay_goes_on_while_a_run_waits_for_its_turn(house: House) -> None:
    await house.work(single("queue"))
    await house.trigger()
    later = await house.trigger(delay_until=house.clock.now() + 60_000)
    [running] = await house.claim(5)
    await house.end(running)
    await house.upkeep.work()
    assert await house.claim(5) == []
    await house.later(seconds=61)
    [running] = await house.claim(5)
    assert running.run.id == later
    waiting = await house.trigger(delay_until=house.clock.now() + 10_000)
    await house.later(seconds=11)
    assert await house.claim(5) == [], "its delay is over, its turn has not come"
    await house.end(running)
    await house.upkeep.work()
    assert [c.run.id for c in await house.claim(5)] == [waiting]


async def test_cancel_previous_keeps_the_newest(house: House) -> None:
    await house.work(single("cancel_previous"))
    first, second = await house.trigger(), await house.trigger()
    assert (await house.run(first)).status is Status.CANCELED
    [running] = await house.claim(5)
    third = await house.trigger()
    assert (await house.run(second)).status is Status.CANCELED
    await house.end(running, "cancelled")
    assert [c.run.id for c in await house.claim(5)] == [third]


async def test_a_policy_that_changed_while_a_run_executes_loses_nobody(house: House) -> None:
    await house.work(single("skip"))
    await house.trigger()
    [running] = await house.claim(5)
    await house.work(single("queue"), hash="2")
    second = await house.trigger()
    await house.end(running)
    await house.upkeep.work()
    assert [c.run.id for c in await house.claim(5)] == [second]


async def test_gates_nobody_uses_are_forgotten(house: House) -> None:
    await house.work(single("queue"))
    await house.trigger()
    [running] = await house.claim(5)
    await house.end(running)
    house.clock.advance(seconds=7_300)
    now = house.clock.now()
    assert await house.engine.write(lambda tx: gates.prune(tx, now, 100)) == 1
