"""Many triggers, one run: behaviours 103 to 111."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from outlast.engine import durable, triggers
from outlast.model.journal import Entry
from outlast.model.refusal import Refusal
from outlast.model.requests import DebounceBy, Record, Suspend, Trigger
from outlast.model.run import Execution, RunOptions, Status
from tests.databases import Address
from tests.engine.house import FakeClock, House, open_house


def by(key: str = "k", seconds: float = 5, mode: Literal["leading", "trailing"] = "leading", most: float = 86_400) -> DebounceBy:
    return DebounceBy(key=key, delay_ms=round(seconds * 1_000), mode=mode, max_delay_ms=round(most * 1_000))


async def test_b103_n_triggers_are_one_run_after_the_last(house: House) -> None:
    await house.work("t")
    first = await house.trigger(debounce=by())
    for _ in range(4):
        house.clock.advance(seconds=3)
        assert await house.trigger(debounce=by()) == first
    await house.later(seconds=4.5)
    assert await house.claim(5) == []
    await house.later(seconds=1)
    assert [c.run.id for c in await house.claim(5)] == [first]


async def test_b104_keys_are_of_an_environment_and_task(house: House) -> None:
    await house.work("t", "u")
    runs = {
        await house.trigger(debounce=by()),
        await house.trigger(debounce=by("other")),
        await house.trigger("u", debounce=by()),
    }
    foreign = await house.engine.call(triggers.trigger, Trigger(env_id=2, task="t", debounce=by()))
    assert not isinstance(foreign, Refusal)
    assert len(runs | {foreign.run_id}) == 4


async def test_b105_a_key_is_free_once_its_run_is_queued_or_cancelled(house: House) -> None:
    await house.work("t")
    first = await house.trigger(debounce=by())
    await house.later(seconds=6)
    second = await house.trigger(debounce=by())
    await house.cancel(second)
    third = await house.trigger(debounce=by())
    assert len({first, second, third}) == 3


async def test_b106_beyond_max_delay_the_old_run_executes_and_a_new_one_takes_the_key(house: House) -> None:
    await house.work("t")
    first = await house.trigger(debounce=by(most=12))
    for _ in range(2):
        house.clock.advance(seconds=3)
        assert await house.trigger(debounce=by(most=12)) == first
    house.clock.advance(seconds=3)
    second = await house.trigger(debounce=by(most=12))
    assert second != first
    await house.later(seconds=2.1)
    assert [c.run.id for c in await house.claim(5)] == [first]


async def test_a_key_that_is_triggered_all_the_time_runs_once_a_day(house: House) -> None:
    """Without a `max_delay` it would never run."""
    await house.work("t")
    endless = DebounceBy(key="k", delay_ms=3_600_000)
    first = await house.trigger(debounce=endless)
    for _ in range(23):
        house.clock.advance(seconds=3_500)
        assert await house.trigger(debounce=endless) == first
    house.clock.advance(seconds=3_500)
    assert await house.trigger(debounce=endless) != first
    await house.later(seconds=101)
    assert [c.run.id for c in await house.claim(5)] == [first]


async def test_b107_trailing_takes_the_last_triggers_data_leading_the_first(house: House) -> None:
    await house.work("t")
    modes: list[tuple[Literal["leading", "trailing"], str]] = [("leading", "1"), ("trailing", "2")]
    for mode, expected in modes:
        first = RunOptions(tags=["a", "b"], machine="micro")
        run_id = await house.trigger(debounce=by(mode, mode=mode), payload="1", options=first, max_attempts=2, metadata='{"n":1}')
        last = RunOptions(tags=["b", "c"], machine="large-1x")
        await house.trigger(debounce=by(mode, mode=mode), payload="2", options=last, max_attempts=7, metadata='{"n":2}')
        data, run = await house.data(run_id), await house.run(run_id)
        assert (data.payload, data.metadata) == (expected, f'{{"n":{expected}}}')
        chosen = first if expected == "1" else last
        assert (data.options.tags, data.options.machine, run.max_attempts) == (chosen.tags, chosen.machine, 2 if expected == "1" else 7)
        tags = await house.engine.read(lambda tx: tx.all("SELECT tag FROM run_tags WHERE run_id = :id ORDER BY tag", id=run_id))  # noqa: B023
        assert [tag for (tag,) in tags] == chosen.tags


async def test_b108_a_push_never_moves_the_time_earlier_and_counts_in_seconds(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(debounce=by(seconds=60))
    before = (await house.run(run_id)).due_at
    assert before is not None and before % 1_000 == 0
    await house.trigger(debounce=by(seconds=1))
    assert (await house.run(run_id)).due_at == before


async def test_b109_b111_concurrent_triggers_on_many_servers_meet_in_one_run(address: Address) -> None:
    clock = FakeClock()
    async with open_house(address, clock=clock) as house:
        await house.work("t")
        item = Trigger(env_id=1, task="t", debounce=by())
        if not address.is_postgres:
            answers: list[Any] = await asyncio.gather(*(house.engine.call(triggers.trigger, item) for _ in range(60)))
        else:
            async with open_house(address, clock=clock, seed=8) as second, open_house(address, clock=clock, seed=9) as third:
                engines = [h.engine for h in (house, second, third)] * 20
                answers = await asyncio.gather(*(engine.call(triggers.trigger, item) for engine in engines))
        assert len({answer.run_id for answer in answers}) == 1
        assert sum(not answer.is_cached for answer in answers) == 1
        await house.assert_sound()


async def test_b110_all_parents_that_wait_for_a_debounced_child_go_on_with_it(house: House) -> None:
    await house.work("t", "child")
    parents = [await house.trigger(), await house.trigger()]
    await house.trigger("child", debounce=by())  # without anybody who waits
    for claimed in await house.claim(2):
        entry = Entry(key="0:trigger_and_wait:child:0", kind="trigger_and_wait", label="child", fingerprint="f", status="pending")
        child = Trigger(env_id=1, task="child", debounce=by())
        run = claimed.run
        await house.engine.call(durable.record, Record(run_id=run.id, epoch=run.epoch, journal=1, entry=entry, child=child))
        await house.engine.call(durable.suspend, Suspend(run_id=run.id, epoch=run.epoch, journal=1, seen=0, executor="x1"))
    await house.later(seconds=6)
    [child_run] = await house.claim(5)
    await house.end(child_run, output="1", output_type="application/json")
    assert {c.run.id for c in await house.claim(5)} == set(parents)


async def test_b145_debounce_joins_a_parked_run(house: House) -> None:
    first = await house.trigger(debounce=by())
    assert (await house.run(first)).execution is Execution.PENDING_VERSION
    house.clock.advance(seconds=2)
    assert await house.trigger(debounce=by()) == first
    await house.work("t")
    found = await house.run(first)
    assert found.status is Status.DELAYED and found.due_at == house.clock.now() + 5_000


async def test_an_idempotency_key_wins_over_debounce(house: House) -> None:
    await house.work("t")
    first = await house.trigger(idempotency_hash="i")
    assert await house.trigger(idempotency_hash="i", debounce=by()) == first
