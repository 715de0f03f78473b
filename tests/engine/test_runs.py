"""Triggering, claiming, ending: behaviours of `engine.md` by number."""

from __future__ import annotations

import asyncio

import pytest

from outlast.engine import sessions, triggers
from outlast.engine.claim import Demand
from outlast.model.manifest import Kind, QueueDefinition, TaskDefinition
from outlast.model.refusal import Refusal
from outlast.model.requests import CloseSession, Trigger, Triggered
from outlast.model.run import Execution, Status
from tests.databases import Address
from tests.engine.house import House, open_house


async def test_b1_a_trigger_makes_one_queued_run_and_no_slot(house: House) -> None:
    await house.work("t")
    run = await house.run(await house.trigger(payload="1"))
    assert (run.status, run.execution, run.snapshot, run.attempt) == (Status.QUEUED, Execution.QUEUED, 1, 0)
    assert await house.counts("task/t") == (0, 1)
    assert await house.history(run.id) == ["triggered"]


async def test_b2_a_claimed_run_holds_a_slot_until_it_succeeds(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(payload='{"a":1}')
    [claimed] = await house.claim()
    assert await house.counts("task/t") == (1, 0)
    assert claimed.data.payload == '{"a":1}'
    await house.end(claimed, output='"done"', output_type="application/json")
    run, data = await house.run(run_id), await house.data(run_id)
    assert (run.status, run.attempt, run.finished_at) == (Status.COMPLETED, 1, house.clock.now())
    assert (data.output, data.output_type) == ('"done"', "application/json")
    assert await house.counts("task/t") == (0, 0)
    assert await house.history(run_id) == ["triggered", "started", "completed"]


async def test_b3_a_failing_run_keeps_its_error(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    [claimed] = await house.claim()
    await house.end(claimed, "failed")
    run, data = await house.run(run_id), await house.data(run_id)
    assert run.status is Status.FAILED
    assert data.error is not None
    assert '"ValueError"' in data.error
    assert (await house.history(run_id))[-1] == "failed"


async def test_b5_a_delayed_run_has_two_snapshots(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(delay_until=house.clock.now() + 60_000)
    await house.later(seconds=61)
    assert await house.history(run_id) == ["delayed", "queued"]


async def test_b8_two_triggers_with_one_key_make_one_run(house: House) -> None:
    await house.work("t", "u")
    first = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t", idempotency_hash="k"))
    second = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t", idempotency_hash="k"))
    other_task = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="u", idempotency_hash="k"))
    other_env = await house.engine.call(triggers.trigger, Trigger(env_id=2, task="t", idempotency_hash="k"))
    assert isinstance(first, Triggered)
    assert second == Triggered(run_id=first.run_id, is_cached=True)
    assert isinstance(other_task, Triggered)
    assert isinstance(other_env, Triggered)
    assert len({first.run_id, other_task.run_id, other_env.run_id}) == 3


async def test_b9_an_expired_key_makes_a_new_run(house: House) -> None:
    await house.work("t")
    first = await house.trigger(idempotency_hash="k", idempotency_ttl_ms=1_000)
    house.clock.advance(seconds=2)
    assert await house.trigger(idempotency_hash="k") != first


async def test_b9_keys_used_at_once_converge_on_one_run(house: House) -> None:
    await house.work("t")
    runs = await asyncio.gather(*[house.trigger(idempotency_hash="k") for _ in range(50)])
    assert len(set(runs)) == 1


@pytest.mark.parametrize(("outcome", "released"), [("ok", False), ("failed", True), ("crashed", True), ("timed_out", True)])
async def test_b9_a_failed_run_releases_its_key_and_a_completed_one_keeps_it(house: House, outcome: str, released: bool) -> None:
    await house.work("t")
    first = await house.trigger(idempotency_hash="k")
    [claimed] = await house.claim()
    await house.end(claimed, outcome)
    assert (await house.trigger(idempotency_hash="k") != first) is released


async def test_a_cancelled_run_keeps_its_key(house: House) -> None:
    await house.work("t")
    first = await house.trigger(idempotency_hash="k")
    await house.cancel(first)
    assert await house.trigger(idempotency_hash="k") == first


async def test_a_retried_request_makes_no_second_run(house: House) -> None:
    await house.work("t")
    item = Trigger(env_id=1, task="t", request_id="r1", request_hash="h1")
    first = await house.engine.call(triggers.trigger, item)
    again = await house.engine.call(triggers.trigger, item)
    other_body = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t", request_id="r1", request_hash="h2"))
    assert isinstance(first, Triggered)
    assert again == Triggered(run_id=first.run_id)
    assert other_body == Triggered(run_id=first.run_id, warning="request-id-reuse")
    assert await house.counts("task/t") == (0, 1)


async def test_b14_a_full_queue_refuses(address: Address) -> None:
    async with open_house(address) as house:
        await house.work("t")
        await house.engine.write(lambda tx: tx.execute("UPDATE environments SET max_queue_size = 2 WHERE id = 1"))
        house.engine.catalog.forget()
        await asyncio.gather(house.trigger(), house.trigger())
        answer = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t"))
        assert isinstance(answer, Refusal)
        assert answer.code == "queue_full"
        await house.assert_sound()


async def test_b15_claiming_some_leaves_the_others(house: House) -> None:
    await house.work("t")
    made = {await house.trigger() for _ in range(7)}
    claimed = await house.claim(4)
    assert len({c.run.id for c in claimed}) == 4
    assert {c.run.id for c in claimed} <= made
    assert await house.counts("task/t") == (4, 3)


async def test_b16_the_claim_locks_version_epoch_and_start(house: House) -> None:
    version = await house.work("t")
    await house.trigger()
    [claimed] = await house.claim()
    run = claimed.run
    assert (run.version, run.epoch, run.attempt, run.started_at) == (version, 1, 1, house.clock.now())
    assert run.held_by == house.session
    assert run.execution is Execution.EXECUTING


async def test_b25_b38_a_stale_epoch_changes_nothing(house: House) -> None:
    await house.work("t")
    await house.trigger()
    [claimed] = await house.claim()
    await house.lose(claimed)
    await house.later(seconds=1)
    [again] = await house.claim()
    assert again.run.epoch == 2
    refused = await house.end(claimed, output="1")
    assert isinstance(refused, Refusal)
    assert refused.code == "stale_epoch"
    assert (await house.run(again.run.id)).status is Status.EXECUTING


async def test_b38_an_exact_repeat_gets_the_recorded_answer(house: House) -> None:
    await house.work("t")
    await house.trigger()
    [claimed] = await house.claim()
    await house.end(claimed, output="1")
    repeat = await house.end(claimed, output="1")
    assert not isinstance(repeat, Refusal)
    assert repeat.repeat
    other = await house.end(claimed, output="2")
    assert isinstance(other, Refusal)
    assert (await house.data(claimed.run.id)).output == "1"


async def test_b29_b30_a_short_retry_stays_a_long_one_queues(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    [claimed] = await house.claim()
    answer = await house.end(claimed, "retry", retry_delay_ms=1_000)
    assert not isinstance(answer, Refusal)
    assert answer.attempt == 2
    run = await house.run(run_id)
    assert (run.execution, run.attempt, run.epoch) == (Execution.EXECUTING, 2, 1)
    await house.end(run, "retry", retry_delay_ms=60_000)
    waiting = await house.run(run_id)
    assert (waiting.execution, waiting.due_at) == (Execution.QUEUED, house.clock.now() + 60_000)
    assert await house.counts("task/t") == (0, 0)
    await house.later(seconds=61)
    [third] = await house.claim()
    assert (third.run.attempt, third.run.epoch) == (3, 2)
    await house.end(third)
    assert (await house.run(run_id)).status is Status.COMPLETED


async def test_a_repeated_retry_is_answered_as_before(house: House) -> None:
    await house.work("t")
    await house.trigger()
    [claimed] = await house.claim()
    first = await house.end(claimed, "retry", retry_delay_ms=10)
    again = await house.end(claimed, "retry", retry_delay_ms=10)
    assert not isinstance(first, Refusal)
    assert not isinstance(again, Refusal)
    assert (first.attempt, again.attempt) == (2, 2)


async def test_b31_max_attempts_of_the_run_ends_it(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(max_attempts=1)
    [claimed] = await house.claim()
    await house.end(claimed, "retry", retry_delay_ms=10)
    assert (await house.run(run_id)).status is Status.FAILED


async def test_b40_a_retry_stays_on_its_version(house: House) -> None:
    old = await house.work("t", hash="1")
    await house.trigger()
    [claimed] = await house.claim()
    await house.end(claimed, "retry", retry_delay_ms=60_000)
    await house.work("t", "u", hash="2")
    await house.later(seconds=61)
    assert await house.claim() == []
    house.version = old
    [again] = await house.claim()
    assert again.run.version == old


async def test_b41_a_huge_error_is_stored_short_and_the_run_ends(house: House) -> None:
    from outlast.model.failure import Failure
    from outlast.model.result import encode_failure

    await house.work("t")
    run_id = await house.trigger()
    [claimed] = await house.claim()
    await house.end(claimed, "failed", error=encode_failure(Failure(name="E", message="x" * 1_000_000, stack="y" * 1_000_000)))
    assert len((await house.data(run_id)).error or "") < 80_000
    assert (await house.run(run_id)).status is Status.FAILED


async def test_b43_a_run_that_never_begins_is_dead_lettered(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    for _ in range(12):
        [claimed] = await house.claim()
        assert claimed.run.attempt == 1
        await house.give_back(claimed)
    run = await house.run(run_id)
    assert run.status is Status.SYSTEM_FAILURE
    assert "dead letter" in ((await house.data(run_id)).error or "")


async def test_b44_a_lost_run_goes_back_and_three_losses_are_poison(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(max_attempts=1)
    for loss, kind in enumerate(("async", "async", "process")):  # the last time alone
        house.kind = kind
        [claimed] = await house.claim()
        assert claimed.run.attempt == loss + 1
        await house.lose(claimed)
    assert (await house.run(run_id)).status is Status.CRASHED


async def test_a_run_that_lost_two_workers_is_tried_alone_in_a_process(house: House) -> None:
    """Row 29: whatever its task says, and the death of that process is the third loss; an innocent one goes well there."""
    await house.work("t")
    poison, innocent = await house.trigger(), await house.trigger()
    for _ in range(2):
        for claimed in await house.claim(2):
            await house.lose(claimed)
    assert await house.claim(2) == []
    house.kind = "process"
    first, second = await house.claim(2)
    assert [first.run.id, second.run.id] == [poison, innocent]
    await house.end(first, "lost")
    await house.end(second)
    assert [(await house.run(id_)).status for id_ in (poison, innocent)] == [Status.CRASHED, Status.COMPLETED]
    assert "poison" in (await house.history(poison))[-1]


async def test_a_lost_run_of_a_full_queue_gets_its_slot_back(house: House) -> None:
    """Newer runs wait behind it."""
    await house.work(TaskDefinition(id="t", queue=QueueDefinition(name="one", concurrency_limit=1)))
    lost, newer = await house.trigger(), await house.trigger()
    [claimed] = await house.claim(2)
    house.free = 2
    await house.lose(claimed)
    assert [c.run.id for c in house.claimed] == [lost, lost]
    assert (await house.run(newer)).status is Status.QUEUED


async def test_a_suspect_of_a_full_queue_does_not_wait_for_newer_runs(house: House) -> None:
    """It is for other executors than they are, which take from the same limit: the oldest begins, whoever can run it."""
    await house.work(TaskDefinition(id="t", queue=QueueDefinition(name="one", concurrency_limit=1)))
    suspect = await house.trigger()
    for _ in range(2):
        [claimed] = await house.claim()
        await house.lose(claimed)
    house.clock.advance(seconds=1)
    newer = await house.trigger()
    kinds: tuple[Kind, ...] = ("async", "process")
    house.engine.demand = lambda: [Demand(house.env_id, house.session, house.version, kind, kind, 1) for kind in kinds]
    [claimed] = await house.claim()
    assert (claimed.run.id, claimed.executor) == (suspect, "process")
    await house.end(claimed)
    assert house.claimed[-1].run.id == newer


async def test_executors_of_a_closed_session_keep_nothing_from_others(house: House) -> None:
    """They may be connected for another beat, and older runs wait for their version."""
    old, gone = await house.work("t", hash="1"), house.session
    await house.trigger(locked_version=old)
    house.clock.advance(seconds=1)
    new = await house.work("t", hash="2")
    run_id = await house.trigger()
    await house.engine.call(sessions.close_session, CloseSession(session=gone))
    house.engine.demand = lambda: [
        Demand(house.env_id, session, version, "x1", "async", 1) for session, version in ((gone, old), (house.session, new))
    ]
    assert [c.run.id for c in await house.claim()] == [run_id]


async def test_b50_a_stalled_development_run_is_not_retried(address: Address) -> None:
    async with open_house(address, env="DEVELOPMENT") as house:
        await house.work("t")
        run_id = await house.trigger()
        [claimed] = await house.claim()
        await house.lose(claimed, stalled=True)
        assert (await house.run(run_id)).status is Status.CANCELED
        await house.assert_sound()
