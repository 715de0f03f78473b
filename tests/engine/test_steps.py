"""Steps in a flush: alone they are one statement on PostgreSQL, beside others a whole flush, and nobody can tell the difference."""

from __future__ import annotations

from typing import Any

from outlast.engine import attempts, durable
from outlast.model.journal import Entry
from outlast.model.refusal import Refusal
from outlast.model.requests import Complete, Record
from outlast.model.result import Result
from outlast.store import journal
from tests.engine.house import House
from tests.engine.test_flush import together


def step(run_id: str, key: str, *, epoch: int = 1) -> tuple[Any, Record]:
    entry = Entry(key, "step", key, "", "ok", value=f'"{key}"', value_type="application/json", location="a.py:1")
    return durable.record, Record(run_id=run_id, epoch=epoch, journal=1, entry=entry)


async def recorded(house: House, run_id: str) -> list[tuple[str, int | None]]:
    return [(e.key, e.seq) for e in await house.engine.read(lambda tx: journal.since(tx, run_id, 1, 0))]


async def test_steps_of_several_runs_take_the_next_places_of_each(house: House) -> None:
    await house.work("t")
    ids = [await house.trigger() for _ in range(2)]
    await house.claim(2)
    entries = await together(house, step(ids[0], "a"), step(ids[1], "b"), step(ids[0], "c"))
    assert [e.seq for e in entries] == [0, 0, 1]
    [again] = await together(house, step(ids[0], "d"))
    assert again.seq == 2
    assert await recorded(house, ids[0]) == [("a", 0), ("c", 1), ("d", 2)]
    assert (await house.run(ids[0])).next_seq == 3


async def test_a_step_sent_twice_has_one_place(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    await house.claim()
    first, twice, other = await together(house, step(run_id, "a"), step(run_id, "a"), step(run_id, "b"))
    [late] = await together(house, step(run_id, "a"))
    assert first == twice == late
    assert await recorded(house, run_id) == [("a", 0), ("b", 1)]
    assert other.seq == 1


async def test_a_stale_step_is_refused_and_its_neighbours_stand(house: House) -> None:
    await house.work("t")
    ids = [await house.trigger() for _ in range(2)]
    await house.claim(2)
    stale, _ = await together(house, step(ids[0], "a", epoch=0), step(ids[1], "b"))
    assert isinstance(stale, Refusal) and stale.code == "stale_epoch"
    assert (await recorded(house, ids[0]), await recorded(house, ids[1])) == ([], [("b", 0)])


async def test_a_step_before_its_runs_end_counts_and_one_behind_it_does_not(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    [claimed] = await house.claim()
    done = Complete(run_id=run_id, session=house.session, result=Result(epoch=claimed.run.epoch, attempt=1, outcome="ok", output="1"))
    before, end, behind = await together(house, step(run_id, "a"), (attempts.complete, done), step(run_id, "b"))
    assert before.seq == 0 and not isinstance(end, Refusal)
    assert isinstance(behind, Refusal) and behind.code == "run_final"
    [alone] = await together(house, step(run_id, "c"))
    assert isinstance(alone, Refusal) and alone.code == "run_final"
    assert await recorded(house, run_id) == [("a", 0)]
