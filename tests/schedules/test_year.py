"""A year of schedules on three servers that crash, with clocks that jump: every nominal time has the runs its policy says."""

from __future__ import annotations

import random

import pytest

from outlast.engine import schedules
from outlast.model import cron
from outlast.model.flow import Fire
from outlast.store import schedules as store
from tests.databases import Address
from tests.engine.house import FakeClock, House, open_house
from tests.schedules.house import MONDAY, hour, look, save, scheduled, ticks

DAY = 24


async def look_and_die(house: House, chance: random.Random) -> None:
    """A server that had looked, and died before or after it wrote."""
    now = house.clock.now()
    rows = await house.engine.read(lambda tx: store.due(tx, now, 200))
    for id_, env_id, task, _ in rows:
        if chance.random() < 0.5:
            await house.engine.call(schedules.fire, Fire(env_id=env_id, schedule_id=id_, task=task))


async def live(address: Address, days: int, seed: int) -> None:
    chance = random.Random(seed)
    clocks = [FakeClock(MONDAY) for _ in range(3 if address.is_postgres else 1)]
    async with open_house(address, clock=clocks[0]) as first:
        await first.work(scheduled())
        every = await save(first, "0 */6 * * *", catch_up="all", deduplication_key="all", timezone="Europe/Paris")
        newest = await save(first, "30 7 * * *", catch_up="latest", deduplication_key="latest", timezone="America/New_York")
        houses = [first]
        at = MONDAY
        for day in range(days):
            for _ in range(8):
                at += 3 * 3_600_000
                for clock in clocks:
                    clock.at = at + chance.choice([0, 0, -3_600_000, 3_600_000, 120_000])
                house = chance.choice(houses)
                if chance.random() < 0.2:
                    await look_and_die(house, chance)
                else:
                    await house.upkeep.schedules()
            if address.is_postgres and day % 30 == 0:  # a server dies, and another begins
                async with open_house(address, clock=clocks[1], seed=day) as other:
                    await other.upkeep.schedules()
        for clock in clocks:
            clock.at = at + 2 * 3_600_000
        while await first.upkeep.schedules():
            pass
        until = clocks[0].now()
        for s in (every, newest):
            made = await ticks(first, s)
            expected = cron.between(s.cron, s.timezone, MONDAY, (await look(first, s.id)).next_at or 0, 100_000)[:-1]
            assert [t.nominal_at for t in made] == [n for n in expected if n <= max(until, made[-1].nominal_at)]
            assert len({t.run_id for t in made}) == len(made), "each has a run of its own"
        assert hour(0) == MONDAY
        await first.assert_sound()


async def test_three_weeks_of_crashes_and_jumping_clocks(address: Address) -> None:
    await live(address, 21, seed=1)


@pytest.mark.full
async def test_a_year_of_crashes_and_jumping_clocks(address: Address) -> None:
    await live(address, 365, seed=2)
