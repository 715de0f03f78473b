"""Retention: what ended long ago goes, in bounded steps, and what still waits holds nothing up."""

from __future__ import annotations

from outlast.engine.upkeep import Upkeep
from tests.engine.house import House

DAY = 86_400


async def test_old_runs_go_and_those_that_wait_hold_up_nothing(house: House) -> None:
    await house.work("t")
    waiting = [await house.trigger(delay_until=house.clock.now() + 100 * DAY * 1_000) for _ in range(600)]  # more than a step looks at
    ended = await house.trigger()
    await house.end((await house.claim())[0])
    house.clock.advance(seconds=8 * DAY)
    young = await house.trigger()
    await house.end((await house.claim())[0])
    upkeep = Upkeep(house.engine, retention_ms=7 * DAY * 1_000, grace_ms=0)
    for _ in range(3):
        await upkeep.retention()
    left = {row[0] for row in await house.engine.read(lambda tx: tx.all("SELECT id FROM runs"))}
    assert left == {*waiting, young}
    assert await house.engine.read(lambda tx: tx.all("SELECT 1 FROM run_data WHERE run_id = :id", id=ended)) == []
