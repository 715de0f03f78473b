"""The duties of upkeep: what goes wrong in one is no reason to leave the others undone."""

from __future__ import annotations

import asyncio

import pytest

from outlast.engine import upkeep
from outlast.store import timers
from outlast.store.database import DatabaseError
from tests.engine.house import House


async def test_a_work_item_that_fails_holds_up_no_other_and_is_tried_again(house: House) -> None:
    await house.work("t")
    bad = ("work_1", "unpark", "no number", house.clock.now())
    await house.engine.write(lambda tx: timers.add_work(tx, [bad, ("work_2", "cancel_children", "run_none", house.clock.now())]))

    async def left() -> list[tuple[str, int]]:
        return await house.engine.read(lambda tx: tx.all("SELECT id, tries FROM work"))

    assert await house.upkeep.work() == 2
    assert await left() == [("work_1", 1)]
    assert await house.upkeep.work() == 0
    await house.later(seconds=5)
    assert await left() == [("work_1", 2)]


async def test_a_duty_that_fails_ends_no_other_unless_the_database_is_away(house: House) -> None:
    done: list[str] = []

    async def defective() -> None:
        done.append("defective")
        raise KeyError("a defect")

    async def in_doubt() -> None:
        done.append("in doubt")
        raise DatabaseError("deadlock", retryable=True)

    async def away() -> None:
        done.append("away")
        raise DatabaseError("no connection", retryable=True, unavailable=True)

    async def last() -> None:
        done.append("last")

    assert await house.upkeep.do(defective, in_doubt, last)
    assert done == ["defective", "in doubt", "last"]
    assert not await house.upkeep.do(away, last)
    assert done[3:] == ["away"]


async def test_losses_that_cannot_be_written_are_left_for_the_next_round(house: House) -> None:
    """As by a defect of ours: whoever tried them again at once would do nothing else any more."""
    await house.work("t")
    run_id = await house.trigger()
    await house.claim()
    await house.engine.write(lambda tx: tx.execute("UPDATE slots SET epoch = epoch + 1 WHERE run_id = :run_id", run_id=run_id))
    async with asyncio.timeout(30):
        assert await house.upkeep.lose_slots(house.session) == 1
    await house.engine.write(lambda tx: tx.execute("UPDATE slots SET epoch = epoch - 1 WHERE run_id = :run_id", run_id=run_id))
    assert await house.upkeep.lose_slots(house.session) == 1
    assert await house.upkeep.lose_slots(house.session) == 0


async def test_timers_that_stay_are_left_for_the_next_round(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    what = "BEGIN SELECT RAISE(IGNORE); END"
    if house.engine.database.is_postgres:
        what = "FOR EACH ROW EXECUTE FUNCTION stuck()"
        stuck = "CREATE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        await house.engine.write(lambda tx: tx.execute(stuck))
    monkeypatch.setattr(upkeep, "STEP", 1)
    await house.work("t")
    await house.trigger(delay_until=house.clock.now() + 10_000)
    await house.engine.write(lambda tx: tx.execute(f"CREATE TRIGGER stuck BEFORE DELETE ON timers {what}"))
    house.clock.advance(seconds=11)
    async with asyncio.timeout(30):
        assert await house.upkeep.timers() == 1
    await house.engine.write(lambda tx: tx.execute("DROP TRIGGER stuck" + (" ON timers" if house.engine.database.is_postgres else "")))
    assert await house.upkeep.timers() == 1
    assert await house.upkeep.timers() == 0
