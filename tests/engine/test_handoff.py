"""A new entry that nothing stands before goes to a free slot in the flush that made it; limits and order stand."""

from __future__ import annotations

from outlast.engine import attempts, triggers
from outlast.engine.queues import pause_queue
from outlast.model.flow import PauseQueue
from outlast.model.manifest import QueueDefinition, TaskDefinition
from outlast.model.requests import Complete, Trigger
from outlast.model.result import Result
from tests.databases import Address
from tests.engine.house import House, open_house
from tests.engine.test_flush import together
from tests.engine.test_queues import queue_id

TRIGGER = (triggers.trigger, Trigger(env_id=1, task="t"))


async def one_at_a_time(house: House) -> None:
    await house.work(TaskDefinition(id="t", queue=QueueDefinition(name="q", concurrency_limit=1)))
    await house.claim()  # nothing; whatever was to be looked at has been


async def test_a_new_run_starts_in_the_flush_that_made_it(house: House) -> None:
    await house.work("t")
    await house.claim()
    house.free = 1
    run_id = await house.trigger()
    assert [c.run.id for c in house.claimed] == [run_id]
    assert (await house.history(run_id), (await house.run(run_id)).snapshot) == (["triggered, started"], 1)
    assert await house.counts("task/t") == (1, 0)


async def test_no_more_start_than_the_queue_allows(house: House) -> None:
    await one_at_a_time(house)
    house.free = 5
    await together(house, TRIGGER, TRIGGER, TRIGGER)
    assert len(house.claimed) == 1 and await house.counts("q") == (1, 2)
    await house.end(house.claimed[0])
    assert len(house.claimed) == 2 and await house.counts("q") == (1, 1)


async def test_who_waited_goes_before_who_comes(house: House) -> None:
    await one_at_a_time(house)
    house.free = 5
    first, second = await house.trigger(), await house.trigger()
    [claimed] = house.claimed
    done = Complete(run_id=first, session=house.session, result=Result(epoch=claimed.run.epoch, attempt=1, outcome="ok", output="1"))
    await together(house, (attempts.complete, done), TRIGGER)
    assert [c.run.id for c in house.claimed] == [first, second]
    assert await house.counts("q") == (1, 1)


async def test_a_paused_queue_gives_nothing(house: House) -> None:
    await one_at_a_time(house)
    await house.engine.call(pause_queue, PauseQueue(env_id=1, queue_id=await queue_id(house, "q"), paused=True))
    house.free = 5
    await house.trigger()
    assert house.claimed == [] and await house.counts("q") == (0, 1)


async def test_no_more_start_than_the_environment_allows(address: Address) -> None:
    async with open_house(address, limit=2) as house:
        await house.work("t", "u")
        await house.claim()
        house.free = 5
        await together(house, TRIGGER, (triggers.trigger, Trigger(env_id=1, task="u")), TRIGGER)
        assert len(house.claimed) == 2
        waits = {"t", "u"} - {c.run.task for c in house.claimed} or {"t"}
        await house.end(house.claimed[0])  # the place is free for another queue too
        assert len(house.claimed) == 3 and house.claimed[2].run.task in waits
        await house.assert_sound()
