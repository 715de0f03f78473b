"""A run that may go on waits a little for the worker that has its coroutine, when that one speaks with another server."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import durable
from outlast.engine.claim import Claimed
from outlast.model.journal import Entry
from outlast.model.limits import HOLDER_MS
from outlast.model.refusal import Refusal
from outlast.model.requests import Record, Suspend
from outlast.model.run import Execution, Run
from outlast.store import lanes
from tests.engine.house import House

WAIT = Entry("r/wait:for#0", "wait", "for", "", "pending", location="a.py:1")


async def waiting(house: House, *, seconds: int) -> Claimed:
    """A run whose code waits for a time, in the executor x1 of the house's session."""
    await house.trigger()
    [claimed] = await house.claim()
    run = claimed.run
    until = house.clock.now() + seconds * 1_000
    await house.engine.call(durable.record, Record(run_id=run.id, epoch=run.epoch, journal=1, entry=replace(WAIT, due_at=until)))
    await house.engine.call(durable.suspend, Suspend(run_id=run.id, epoch=run.epoch, journal=1, seen=0, executor="x1"))
    return claimed


async def test_a_worker_of_another_server_is_waited_for_and_goes_on_hot(house: House) -> None:
    await house.work("t")
    claimed = await waiting(house, seconds=60)
    holder = house.session
    await house.work("t")  # another worker
    await house.later(seconds=60)
    assert await house.claim() == []
    house.session = holder
    [again] = await house.claim()
    assert (again.run.id, again.is_hot, [e.key for e in again.entries]) == (claimed.run.id, True, [WAIT.key])
    assert (await house.run(again.run.id)).due_at is None


async def test_point_4_a_wait_whose_answer_was_lost_is_said_again_and_is_one(house: House) -> None:
    """Its executor would take a refusal for news, and ask again at once, as long as the wait lasts."""
    await house.work("t")
    claimed = await waiting(house, seconds=60)
    again = Suspend(run_id=claimed.run.id, epoch=claimed.run.epoch, journal=1, seen=0, executor="x1")
    for execution in (Execution.SUSPENDED, Execution.QUEUED):
        said = await house.engine.call(durable.suspend, again)
        assert isinstance(said, Run)
        assert said.execution is execution
        await house.later(seconds=60)
    assert (await house.history(claimed.run.id)).count("waiting") == 1
    await house.claim()
    refused = await house.engine.call(durable.suspend, again)
    assert isinstance(refused, Refusal)
    assert refused.code == "stale_epoch"


async def test_it_is_waited_for_only_so_long(house: House) -> None:
    await house.work("t")
    claimed = await waiting(house, seconds=60)
    await house.work("t")  # another worker
    await house.later(seconds=60)
    await house.later(seconds=HOLDER_MS / 1_000)
    assert (await house.run(claimed.run.id)).execution is Execution.QUEUED
    [again] = await house.claim()
    assert (again.run.id, again.is_hot, [e.key for e in again.entries]) == (claimed.run.id, False, [WAIT.key])
    assert (await house.history(again.run.id))[-2:] == ["holder away", "continued"]


async def test_a_worker_that_is_here_is_not_waited_for(house: House) -> None:
    await house.work("t")
    claimed = await waiting(house, seconds=60)
    house.engine.connected = lambda: [claimed.session]
    await house.work("t")  # another worker
    await house.later(seconds=60)
    [again] = await house.claim()
    assert (again.run.id, again.is_hot) == (claimed.run.id, False)


async def test_a_waiting_run_can_be_cancelled_while_its_worker_is_away(house: House) -> None:
    await house.work("t")
    claimed = await waiting(house, seconds=60)
    await house.work("t")  # another worker
    await house.later(seconds=60)
    await house.cancel(claimed.run.id)
    await house.later(seconds=HOLDER_MS / 1_000)
    assert (await house.run(claimed.run.id)).execution is Execution.FINISHED
    assert await house.claim() == []


async def test_lanes_of_workers_that_are_gone_are_deleted_and_busy_ones_stay(house: House) -> None:
    await house.work("t")
    await waiting(house, seconds=60)
    await house.later(seconds=60)
    await house.trigger()  # the base is in use
    await house.work("t")  # another worker
    await house.later(seconds=HOLDER_MS / 1_000)
    [again] = await house.claim()
    house.clock.advance(seconds=3_601)
    await house.upkeep.expired()
    routes = await house.engine.read(lambda tx: [row[0] for row in tx.all("SELECT route FROM lanes ORDER BY route")])
    assert routes == ["current", f"v:{again.run.version}"]  # a slot is taken in the second
    await house.end(again)
    assert await house.engine.read(lanes.wrong_counters) == []
