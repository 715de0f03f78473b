"""Batches that do not become whole."""

from __future__ import annotations

from outlast.engine import batches as engine
from outlast.engine import triggers
from outlast.model.limits import BATCH_SEAL_MS
from outlast.model.refusal import Refusal
from outlast.model.requests import AbortBatch, BatchCreated, CreateBatch, Trigger
from outlast.store import batches
from outlast.store.batches import Batch
from tests.engine.house import House


async def created(house: House, count: int) -> str:
    made = await house.engine.call(triggers.create_batch, CreateBatch(env_id=1, count=count))
    assert isinstance(made, BatchCreated)
    return made.batch_id


async def look(house: House, batch_id: str) -> Batch:
    found = await house.engine.read(lambda tx: batches.read(tx, 1, batch_id))
    assert found is not None
    return found


async def test_b133_a_batch_whose_items_do_not_come_is_aborted_once_and_its_runs_go_on(house: House) -> None:
    await house.work("t")
    late, whole = await created(house, 2), await created(house, 1)
    run_id = await house.trigger(batch_id=late, batch_index=0)
    await house.trigger(batch_id=whole, batch_index=0)
    for claimed in await house.claim(2):
        if claimed.run.id != run_id:
            await house.end(claimed)
    due = house.clock.now() + BATCH_SEAL_MS
    await house.later(seconds=BATCH_SEAL_MS / 1_000 - 1)
    assert (await look(house, late)).aborted_at is None
    await house.later(seconds=2)
    aborted = await look(house, late)
    assert (aborted.status, (await look(house, whole)).status) == ("ABORTED", "COMPLETED")
    item = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t", batch_id=late, batch_index=1))
    assert isinstance(item, Refusal) and item.code == "batch_aborted"
    await house.later(seconds=60)
    for batch_id in (late, whole):
        await house.engine.call(engine.abort, AbortBatch(batch_id=batch_id, due_at=due))
    assert (await look(house, late)).aborted_at == aborted.aborted_at
    assert (await look(house, whole)).status == "COMPLETED"
    assert not (await house.run(run_id)).is_final
