"""Rates, combined limits and sizes of queues."""

from __future__ import annotations

from collections import Counter

import pytest

from outlast.engine import triggers
from outlast.errors import ConfigurationError
from outlast.model import rate as rates
from outlast.model.manifest import QueueDefinition, TaskDefinition
from outlast.model.rate import Rate
from outlast.model.refusal import Refusal
from outlast.model.requests import Trigger
from outlast.queues import RateLimit, queue
from tests.databases import Address
from tests.engine.house import House, open_house


def task(id: str = "t", **rules: object) -> TaskDefinition:
    return TaskDefinition(id=id, queue=QueueDefinition(name="q", **rules))  # pyright: ignore[reportArgumentType]


async def starts(house: House, seconds: float, step: float = 0.25) -> list[int]:
    """When runs started, while a worker with much room ends each at once."""
    found: list[int] = []
    for _ in range(round(seconds / step)):
        for claimed in await house.claim(50):
            found.append(house.clock.now())
            await house.end(claimed)
        await house.later(seconds=step)
    return found


async def test_a_rate_holds_in_every_window_and_is_used_up(house: House) -> None:
    await house.work(task(rate=Rate(limit=4, period_ms=2_000)))
    for _ in range(30):
        await house.trigger()
    times = await starts(house, 8)
    assert len(times) == 16
    assert all(sum(start <= t < start + 2_000 for t in times) <= 4 for start in times)


async def test_a_burst_comes_at_once_and_the_rate_goes_on(house: House) -> None:
    await house.work(task(rate=Rate(limit=4, period_ms=4_000, burst=3)))
    for _ in range(30):
        await house.trigger()
    assert len(await house.claim(50)) == 3
    times = await starts(house, 8)
    assert len(times) == 7
    assert all(sum(start <= t < start + 4_000 for t in times) <= 4 + 3 - 1 for start in times)


async def test_a_rate_per_key_leaves_the_other_keys_alone_and_starves_none(house: House) -> None:
    await house.work(task(rate=Rate(limit=1, period_ms=2_000, per_key=True)))
    for n in range(40):
        await house.trigger(concurrency_key="hot" if n % 4 else f"k{n % 3}")
    claimed = await house.claim(50)
    assert Counter(c.run.concurrency_key for c in claimed) == {"hot": 1, "k0": 1, "k1": 1, "k2": 1}
    await house.later(seconds=2)
    assert len(await house.claim(50)) == 4


async def test_a_rate_that_is_used_up_does_not_hold_up_other_queues(house: House) -> None:
    await house.work(task(rate=Rate(limit=1, period_ms=60_000)), TaskDefinition(id="free"))
    for _ in range(20):
        await house.trigger()
    await house.claim(1)
    house.clock.advance(seconds=1)
    await house.trigger("free")
    assert [c.run.task for c in await house.claim(1)] == ["free"]


async def test_a_run_that_goes_on_after_a_wait_is_not_counted_again(house: House) -> None:
    from outlast.engine import durable
    from outlast.model.journal import Entry
    from outlast.model.requests import Record, Suspend

    await house.work(task(rate=Rate(limit=2, period_ms=2_000)))
    await house.trigger()
    [claimed] = await house.claim()
    run = claimed.run
    entry = Entry(key="0:wait:0", kind="wait", label="", fingerprint="", status="pending", due_at=house.clock.now() + 1_000)
    await house.engine.call(durable.record, Record(run_id=run.id, epoch=run.epoch, journal=1, entry=entry))
    await house.engine.call(durable.suspend, Suspend(run_id=run.id, epoch=run.epoch, journal=1, seen=0, executor="x1"))
    await house.later(seconds=1.5)
    await house.trigger()
    assert len(await house.claim(5)) == 2


async def test_a_combined_limit_bounds_all_keys_together_in_their_order(house: House) -> None:
    await house.work(task(concurrency_limit=2, combined_limit=3))
    for key in ("a", "a", "a", "b", "b", "c", "d"):
        await house.trigger(concurrency_key=key)
        house.clock.advance(seconds=1)
    first = await house.claim(50)
    assert len(first) == 3
    served = [*first]
    while served:
        await house.end(served.pop(0))
        new = await house.claim(50)
        assert len(served) + len(new) <= 3
        served += new
        first += new
    assert Counter(c.run.concurrency_key for c in first) == {"a": 3, "b": 2, "c": 1, "d": 1}


async def test_many_servers_keep_a_rate_and_a_combined_limit(postgres: Address) -> None:
    async with open_house(postgres) as one, open_house(postgres, clock=one.clock, seed=8) as two:
        await one.work(task(combined_limit=5, rate=Rate(limit=10, period_ms=10_000, burst=10)))
        two.session, two.version = one.session, one.version
        for n in range(40):
            await one.trigger(concurrency_key=f"k{n}")
        one.free = two.free = 50
        one.engine.wake()
        two.engine.wake()
        claimed = [*await one.claim(50), *await two.claim(50)]
        assert len({c.run.id for c in claimed}) == len(claimed) <= 5
        await one.assert_sound()


async def test_b14_a_queue_beyond_its_size_refuses_triggers(house: House) -> None:
    await house.work(task(max_size=2))
    await house.trigger()
    await house.trigger()
    refused = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t"))
    assert isinstance(refused, Refusal)
    assert refused.code == "queue_full"
    await house.claim(1)
    await house.trigger()


async def test_rules_follow_the_code_when_a_version_is_promoted(house: House) -> None:
    await house.work(task(combined_limit=1))
    for key in ("a", "b", "c"):
        await house.trigger(concurrency_key=key)
    assert len(await house.claim(5)) == 1
    await house.work(task(), hash="2")
    assert len(await house.claim(5)) == 2


@pytest.mark.parametrize(
    "rate",
    [
        RateLimit(0, "1m"), RateLimit(-5, "1m"), RateLimit(5, "0s"), RateLimit(5, "soon"), RateLimit(5, "1m", burst=0),
        RateLimit(5, "1m", burst=6), RateLimit(5, "60d"),
    ],
)  # fmt: skip
def test_a_rate_that_cannot_be_is_refused(rate: RateLimit) -> None:
    with pytest.raises(ConfigurationError):
        queue("bad", rate_limit=rate)


@pytest.mark.parametrize("rules", [{"combined_concurrency_limit": -1}, {"max_size": 0}, {"max_size": True}])
def test_sizes_that_cannot_be_are_refused(rules: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        queue("bad", **rules)  # pyright: ignore[reportArgumentType]


def test_the_next_start_is_allowed_exactly_when_a_rate_says() -> None:
    for rate in (Rate(limit=3, period_ms=1_000), Rate(limit=7, period_ms=60_000, burst=4)):
        now, filled = 1_000_000, 0
        for _ in range(50):
            while (n := rates.room(rate, filled, now)) > 0:
                filled = rates.spent(rate, filled, now, n)
            opens = rates.open_at(rate, filled)
            assert rates.room(rate, filled, opens) >= 1
            assert rates.room(rate, filled, opens - 1) == 0
            now = opens


async def test_a_free_place_of_a_combined_limit_goes_to_another_key_at_once(house: House) -> None:
    await house.work(task(combined_limit=1))
    await house.claim()
    house.free = 5
    first, second = await house.trigger(concurrency_key="a"), await house.trigger(concurrency_key="b")
    [claimed] = house.claimed
    await house.end(claimed)  # nobody looks again: the end of one run must let the other in
    assert [c.run.id for c in house.claimed] == [first, second]
