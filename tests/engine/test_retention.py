"""Retention: what ended long ago goes, in bounded steps, and what still waits holds nothing up."""

from __future__ import annotations

from outlast.engine import tokens, triggers
from outlast.engine.retention import RUNS, Retention
from outlast.model.requests import BatchCreated, CreateBatch
from outlast.model.token import CompleteToken, CreateToken
from tests.engine.house import House

DAY = 86_400


async def test_old_runs_go_and_those_that_wait_hold_up_nothing(house: House) -> None:
    await house.work("t")
    waiting = [await house.trigger(delay_until=house.clock.now() + 100 * DAY * 1_000) for _ in range(600)]
    ended = await house.trigger()
    await house.end((await house.claim())[0])
    house.clock.advance(seconds=8 * DAY)
    young = await house.trigger()
    await house.end((await house.claim())[0])
    retention, steps = Retention(house.engine, days=7), 1
    while await retention.step():
        steps += 1
    assert steps > 600 / RUNS
    left = {row[0] for row in await house.engine.read(lambda tx: tx.all("SELECT id FROM runs"))}
    assert left == {*waiting, young}
    assert await house.engine.read(lambda tx: tx.all("SELECT 1 FROM run_data WHERE run_id = :id", id=ended)) == []


async def test_old_batches_and_tokens_go_with_their_runs(house: House) -> None:
    await house.work("t")

    async def make(*, ends: bool) -> tuple[str, str]:
        made = await house.engine.call(triggers.create_batch, CreateBatch(env_id=house.env_id, count=1))
        assert isinstance(made, BatchCreated)
        batch = made.batch_id
        await house.trigger(batch_id=batch, batch_index=0, delay_until=None if ends else house.clock.now() + 100 * DAY * 1_000)
        token = (await house.engine.call(tokens.create_token, CreateToken(env_id=house.env_id))).token_id
        if ends:
            await house.end((await house.claim())[0])
            await house.engine.call(tokens.complete_token, CompleteToken(token_id=token, env_id=house.env_id, value="1"))
        return batch, token

    await make(ends=True)
    waiting = await make(ends=False)
    house.clock.advance(seconds=8 * DAY)
    young = await make(ends=True)
    assert not await Retention(house.engine, days=7).step()
    for place, table in enumerate(("batches", "waitpoints")):
        assert {row[0] for row in await house.engine.read(lambda tx, t=table: tx.all(f"SELECT id FROM {t}"))} == {
            waiting[place],
            young[place],
        }
    left = await house.engine.read(lambda tx: tx.all("SELECT DISTINCT batch_id FROM batch_items"))
    assert {row[0] for row in left} == {waiting[0], young[0]}
    await house.assert_sound()
