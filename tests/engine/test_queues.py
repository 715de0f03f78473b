"""Order, limits, keys, pauses: behaviours 112 to 128."""

from __future__ import annotations

import asyncio
from collections import Counter

from outlast.engine import queues, sessions
from outlast.model.flow import OverrideLimit, PauseEnvironment, PauseQueue
from outlast.model.manifest import Manifest, QueueDefinition, TaskDefinition
from outlast.model.refusal import Refusal
from outlast.model.requests import OpenSession
from outlast.store import catalog
from tests.databases import Address
from tests.engine.house import House, open_house


def limited(limit: int, name: str = "q") -> TaskDefinition:
    return TaskDefinition(id="t", queue=QueueDefinition(name=name, concurrency_limit=limit))


async def queue_id(house: House, name: str) -> int:
    found = await house.engine.read(lambda tx: catalog.queue(tx, house.env_id, name=name))
    assert found is not None
    return found.id


async def test_b112_runs_are_claimed_by_time_minus_priority_then_in_order(house: House) -> None:
    await house.work("t")
    first = await house.trigger()
    second = await house.trigger()
    house.clock.advance(seconds=5)
    ahead = await house.trigger(priority_ms=10_000)
    behind = await house.trigger(priority_ms=1_000)
    assert [c.run.id for c in await house.claim(4)] == [ahead, first, second, behind]


async def test_b114_a_queue_limit_holds(house: House) -> None:
    await house.work(limited(2))
    for _ in range(5):
        await house.trigger()
    first = await house.claim(10)
    assert len(first) == 2
    await house.end(first[0])
    assert len(await house.claim(10)) == 1


async def test_b114_b115_the_environment_bounds_the_sum_and_burst_lifts_only_that(address: Address) -> None:
    async with open_house(address, limit=3, burst=2.0) as house:
        await house.work(limited(100, "a"), TaskDefinition(id="u"), TaskDefinition(id="v"))
        for task in ("t", "u", "v"):
            for _ in range(5):
                await house.trigger(task)
        claimed = await house.claim(100)
        by_task = Counter(c.run.task for c in claimed)
        assert len(claimed) == 6
        assert max(by_task.values()) <= 3
        await house.assert_sound()


async def test_b116_each_concurrency_key_has_the_whole_limit_and_keys_are_fair(house: House) -> None:
    await house.work(limited(1))
    for _ in range(50):
        await house.trigger(concurrency_key="hot")
    for key in ("a", "b", "c"):
        await house.trigger(concurrency_key=key)
    await house.trigger()
    claimed = await house.claim(100)
    assert Counter(c.run.concurrency_key for c in claimed) == {"hot": 1, "a": 1, "b": 1, "c": 1, None: 1}


async def test_b118_a_key_of_separators_is_just_a_key(house: House) -> None:
    await house.work(limited(1))
    for key in ("*", ":", "{}", "a/b", "%"):
        await house.trigger(concurrency_key=key)
    assert len(await house.claim(10)) == 5


async def test_b119_cancelling_queued_runs_leaves_the_others_in_order(house: House) -> None:
    await house.work(limited(1))
    made = [await house.trigger() for _ in range(4)]
    await house.cancel(made[0])
    await house.cancel(made[2])
    assert await house.counts("q") == (0, 2)
    [claimed] = await house.claim(10)
    assert claimed.run.id == made[1]


async def test_b120_a_run_given_back_keeps_its_place(house: House) -> None:
    await house.work("t")
    first = await house.trigger()
    house.clock.advance(seconds=1)
    second = await house.trigger()
    [claimed] = await house.claim()
    await house.give_back(claimed)
    assert [c.run.id for c in await house.claim(2)] == [first, second]


async def test_b126_a_paused_queue_starts_nothing_and_goes_on_when_resumed(house: House) -> None:
    await house.work("t")
    await house.trigger()
    [running] = await house.claim()
    await house.trigger()
    item = PauseQueue(env_id=1, queue_id=await queue_id(house, "task/t"), paused=True)
    await house.engine.call(queues.pause_queue, item)
    assert await house.claim(5) == []
    await house.end(running)
    assert await house.claim(5) == []
    await house.engine.call(queues.pause_queue, PauseQueue(env_id=1, queue_id=item.queue_id, paused=False))
    assert len(await house.claim(5)) == 1


async def test_b126_a_paused_environment_starts_nothing(house: House) -> None:
    await house.work("t")
    await house.trigger()
    await house.engine.call(queues.pause_environment, PauseEnvironment(env_id=1, paused=True))
    assert await house.claim(5) == []
    await house.engine.call(queues.pause_environment, PauseEnvironment(env_id=1, paused=False))
    assert len(await house.claim(5)) == 1


async def test_b127_an_override_acts_at_once_lowering_kills_nothing_and_it_survives_a_deploy(house: House) -> None:
    await house.work(limited(1))
    for _ in range(6):
        await house.trigger()
    found = await queue_id(house, "q")
    await house.claim(10)
    await house.engine.call(queues.override_limit, OverrideLimit(env_id=1, queue_id=found, limit=3))
    assert len(await house.claim(10)) == 2
    await house.work(limited(2), hash="2")
    await house.engine.call(queues.override_limit, OverrideLimit(env_id=1, queue_id=found, limit=1))
    assert await house.counts("q") == (3, 3)
    assert await house.claim(10) == []
    await house.engine.call(queues.override_limit, OverrideLimit(env_id=1, queue_id=found, limit=None))
    assert await house.claim(10) == []
    again = await house.engine.call(queues.override_limit, OverrideLimit(env_id=1, queue_id=found, limit=None))
    assert isinstance(again, Refusal)
    assert again.code == "not_overridden"


async def test_a_limit_changed_in_code_reopens_the_queue(house: House) -> None:
    await house.work(limited(1))
    for _ in range(4):
        await house.trigger()
    await house.claim(10)
    await house.work(limited(3), hash="2")
    await house.upkeep.work()
    assert len(await house.claim(10)) == 2


async def test_a_limit_of_zero_starts_nothing(house: House) -> None:
    await house.work(limited(0))
    await house.trigger()
    assert await house.claim(5) == []


async def test_thread_runs_go_only_to_executors_of_threads_and_share_the_limit(house: House) -> None:
    shared = QueueDefinition(name="q", concurrency_limit=1)
    await house.work(TaskDefinition(id="t", queue=shared), TaskDefinition(id="s", kind="thread", queue=shared))
    blocking, other = await house.trigger("s"), await house.trigger("t")
    house.kind = "thread"
    [claimed] = await house.claim(5)
    assert claimed.run.id == blocking
    house.kind = "async"
    assert await house.claim(5) == []
    await house.end(claimed)
    assert [c.run.id for c in await house.claim(5)] == [other]


async def test_b111_b117_two_servers_claim_each_run_once_and_keep_the_limit(postgres: Address) -> None:
    async with open_house(postgres) as one, open_house(postgres, clock=one.clock, seed=8) as two:
        await one.work(limited(2))
        two.session, two.version = one.session, one.version
        await asyncio.gather(*[(one if n % 2 else two).trigger(concurrency_key=f"k{n % 30}") for n in range(300)])
        seen: list[str] = []
        held: Counter[str | None] = Counter()
        while len(seen) < 300:
            claimed = [c for found in await asyncio.gather(one.claim(40), two.claim(40)) for c in found]
            held.update(c.run.concurrency_key for c in claimed)
            assert max(held.values()) <= 2
            seen += [c.run.id for c in claimed]
            await asyncio.gather(*[(two if n % 2 else one).end(c) for n, c in enumerate(claimed)])
            held.clear()
        assert len(set(seen)) == 300
        await one.assert_sound()


async def test_a_checker_repairs_a_counter_that_is_wrong(house: House) -> None:
    await house.work(limited(1))
    await house.trigger()
    await house.engine.write(lambda tx: tx.execute("UPDATE lanes SET used = 1, open = 0"))
    assert await house.claim(1) == []
    await house.upkeep.check()
    assert len(await house.claim(1)) == 1


async def test_a_run_parked_after_its_version_looked_for_it_is_found(house: House) -> None:
    await house.work("t", hash="1")
    run_id = await house.trigger("late", concurrency_key="k")
    await house.upkeep.parked()
    assert await house.claim(1) == []
    # the version arrives, and its own search misses the run, as when another server parks it a moment later
    manifest = Manifest(python="3.11", content_hash="2", tasks=[TaskDefinition(id="late")])
    opened = await house.engine.call(
        sessions.open_session, OpenSession(env_id=1, server_id="s", worker="w", boot_id="b", manifest=manifest)
    )
    await house.engine.write(lambda tx: tx.execute("DELETE FROM work"))
    house.session, house.version = opened.session, opened.version
    await house.upkeep.parked()
    assert [c.run.id for c in await house.claim(1)] == [run_id]


async def test_a_lane_idle_for_an_hour_is_forgotten_and_made_anew(house: House) -> None:
    await house.work(limited(1))
    await house.trigger(concurrency_key="a")
    [first] = await house.claim()
    await house.trigger(concurrency_key="b")
    house.clock.advance(seconds=3_601)
    await house.upkeep.expired()  # one holds a slot, the other an entry
    await house.end(first)
    assert len(await house.engine.read(lambda tx: tx.all("SELECT 1 FROM lanes"))) == 2
    for _ in range(2):
        [c] = await house.claim() or [None]
        if c is not None:
            await house.end(c)
    house.clock.advance(seconds=3_601)
    await house.upkeep.expired()
    assert await house.engine.read(lambda tx: tx.all("SELECT 1 FROM lanes")) == []
    again = await house.trigger(concurrency_key="a")  # this server still has the lane's id in its cache
    assert [c.run.id for c in await house.claim(2)] == [again]
    await house.assert_sound()
