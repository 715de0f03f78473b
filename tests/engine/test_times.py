"""Ends of attempts, time to live, delays, cancels, versions and replays of runs: behaviours 36 to 170."""

from __future__ import annotations

from outlast.engine import attempts, control, triggers
from outlast.model.manifest import QueueDefinition, TaskDefinition
from outlast.model.refusal import Refusal
from outlast.model.requests import Complete, Replay, Reschedule, Trigger, Triggered
from outlast.model.result import Result
from outlast.model.run import Execution, Status
from outlast.store import events
from tests.databases import Address
from tests.engine.house import House, open_house


async def test_b89_b94_a_run_expires_in_its_queue_and_counts_from_there(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(ttl_ms=10_000, delay_until=house.clock.now() + 60_000)
    await house.later(seconds=61)
    await house.later(seconds=9)
    assert (await house.run(run_id)).status is Status.QUEUED
    await house.later(seconds=2)
    assert (await house.run(run_id)).status is Status.EXPIRED
    assert await house.counts("task/t") == (0, 0)


async def test_b90_a_run_that_started_does_not_expire(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(ttl_ms=1_000)
    [claimed] = await house.claim()
    await house.give_back(claimed)
    await house.later(seconds=60)
    assert (await house.run(run_id)).status is Status.QUEUED


async def test_b91_the_claim_passes_over_expired_runs(house: House) -> None:
    await house.work("t")
    old = await house.trigger(ttl_ms=1_000)
    fresh = await house.trigger()
    house.clock.advance(seconds=5)
    claimed = await house.claim(2)
    assert [c.run.id for c in claimed] == [fresh]
    assert (await house.run(old)).status is Status.EXPIRED


async def test_b98_a_delayed_run_waits_and_counts_its_queue_time_from_then(house: House) -> None:
    await house.work("t")
    due = house.clock.now() + 30_000
    run_id = await house.trigger(delay_until=due)
    await house.later(seconds=29)
    assert await house.claim() == []
    await house.later(seconds=10)
    [claimed] = await house.claim()
    assert (claimed.run.id, claimed.run.queued_at) == (run_id, due)


async def test_b99_b101_rescheduling_moves_the_time_only_while_delayed(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(delay_until=house.clock.now() + 10_000)
    await house.engine.call(control.reschedule, Reschedule(env_id=1, run_id=run_id, due_at=house.clock.now() + 100_000))
    await house.later(seconds=50)
    assert (await house.run(run_id)).status is Status.DELAYED
    await house.later(seconds=51)
    assert (await house.run(run_id)).status is Status.QUEUED
    refused = await house.engine.call(control.reschedule, Reschedule(env_id=1, run_id=run_id, due_at=house.clock.now()))
    assert isinstance(refused, Refusal)
    assert refused.code == "not_delayed"


async def test_b100_a_cancelled_delayed_run_never_queues(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(delay_until=house.clock.now() + 10_000)
    await house.cancel(run_id)
    await house.later(seconds=20)
    assert (await house.run(run_id)).status is Status.CANCELED
    assert await house.counts("task/t") == (0, 0)


async def test_b137_cancelling_an_executing_parent_reaches_children_and_worker(house: House) -> None:
    await house.work("t")
    parent = await house.trigger()
    [claimed] = await house.claim()
    child = await house.trigger(parent_id=parent)
    grandchild = await house.trigger(parent_id=child)
    await house.cancel(parent)
    run = await house.run(parent)
    assert (run.status, run.execution, run.finished_at) == (Status.CANCELED, Execution.PENDING_CANCEL, house.clock.now())
    assert [t.run_id for t in house.told] == [parent]
    await house.later(seconds=0.1)
    await house.later(seconds=0.1)
    assert (await house.run(child)).status is Status.CANCELED
    assert (await house.run(grandchild)).status is Status.CANCELED
    assert await house.counts("task/t") == (1, 0)
    await house.end(claimed, "cancelled")
    assert (await house.run(parent)).execution is Execution.FINISHED
    assert await house.counts("task/t") == (0, 0)


async def test_b138_cancelling_a_queued_run_is_final_at_once(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    await house.cancel(run_id)
    assert (await house.run(run_id)).execution is Execution.FINISHED
    assert await house.claim() == []


async def test_b139_cancelling_twice_tells_the_worker_again_and_a_finished_run_stays(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    [claimed] = await house.claim()
    await house.cancel(run_id)
    await house.cancel(run_id)
    assert len(house.told) == 2
    await house.end(claimed, "cancelled")
    refused = await house.cancel(run_id)
    assert isinstance(refused, Refusal)
    assert refused.code == "run_final"


async def test_b47_a_cancel_nobody_confirms_ends_after_a_minute(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    await house.claim()
    await house.cancel(run_id)
    await house.later(seconds=61)
    assert (await house.run(run_id)).execution is Execution.FINISHED
    assert await house.counts("task/t") == (0, 0)


async def test_b142_b143_an_unknown_task_waits_for_its_version_in_order(house: House) -> None:
    await house.work("t", hash="1")
    first, other, second = await house.trigger("new"), await house.trigger("never"), await house.trigger("new")
    delayed = await house.trigger("new", delay_until=house.clock.now() + 60_000)
    assert (await house.run(first)).status is Status.PENDING_VERSION
    await house.work("t", "new", hash="2")
    assert [c.run.id for c in await house.claim(5)] == [first, second]
    assert (await house.run(other)).status is Status.PENDING_VERSION
    assert (await house.run(delayed)).status is Status.DELAYED


async def test_an_unknown_queue_waits_for_its_version(house: House) -> None:
    await house.work("t", hash="1")
    run_id = await house.trigger(queue="paid")
    assert (await house.run(run_id)).status is Status.PENDING_VERSION
    await house.work("t", queues=[QueueDefinition(name="paid", concurrency_limit=1)], hash="2")
    [claimed] = await house.claim()
    assert (claimed.run.id, claimed.run.queue) == (run_id, "paid")


async def test_b170_another_environment_sees_nothing(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    house.env_id = 2
    refused = await house.cancel(run_id)
    assert isinstance(refused, Refusal)
    assert refused.code == "not_found"
    replay = await house.engine.call(triggers.replay, Replay(env_id=2, run_id=run_id))
    assert isinstance(replay, Refusal)
    house.env_id = 1


async def test_a_replay_is_a_new_run_with_the_same_payload(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(payload='{"a":1}', metadata='{"m":1}', idempotency_hash="k", priority_ms=5_000)
    [claimed] = await house.claim()
    await house.end(claimed)
    made = await house.engine.call(triggers.replay, Replay(env_id=1, run_id=run_id, request_id="x"))
    again = await house.engine.call(triggers.replay, Replay(env_id=1, run_id=run_id, request_id="x"))
    assert isinstance(made, Triggered)
    assert made == again
    data = await house.data(made.run_id)
    assert (data.payload, data.metadata, data.options.replay_of, data.options.idempotency_key_hash) == ('{"a":1}', '{"m":1}', run_id, None)


async def test_row_53_endless_recursion_is_refused(house: House) -> None:
    await house.work("t")
    parent = await house.trigger()
    await house.engine.write(lambda tx: tx.execute("UPDATE runs SET depth = 200 WHERE id = :id", id=parent))
    answer = await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t", parent_id=parent))
    assert isinstance(answer, Refusal)
    assert answer.code == "max_depth"


async def test_snapshots_of_a_run_are_contiguous(house: House) -> None:
    await house.work(TaskDefinition(id="t"))
    run_id = await house.trigger()
    for _ in range(2):
        [claimed] = await house.claim()
        await house.end(claimed, "retry", retry_delay_ms=60_000)
        await house.later(seconds=61)
    numbers = [n for n, _, _, _ in await house.engine.read(lambda tx: events.history(tx, run_id))]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_usage_adds_up_over_attempts(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    [claimed] = await house.claim()
    await house.end(claimed, "retry", retry_delay_ms=10, usage_ms=30, cpu_ms=7, peak_memory=5_000)
    await house.end(await house.run(run_id), usage_ms=12, cpu_ms=2, peak_memory=4_000)
    run = await house.run(run_id)
    assert (run.usage_ms, run.cpu_ms, run.peak_memory) == (42, 9, 5_000)


async def test_completing_an_unknown_run_is_refused(house: House) -> None:
    item = Complete(run_id="run_none", session="s", result=Result(epoch=1, attempt=1, outcome="ok"))
    answer = await house.engine.call(attempts.complete, item)
    assert isinstance(answer, Refusal)
    assert answer.code == "not_found"


async def test_b36_the_250th_attempt_is_the_last(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    await house.claim()
    await house.engine.write(lambda tx: tx.execute("UPDATE runs SET attempt = 249 WHERE id = :id", id=run_id))
    for attempt, status in ((250, Status.EXECUTING), (250, Status.FAILED)):
        await house.end(await house.run(run_id), "retry", retry_delay_ms=10)
        run = await house.run(run_id)
        assert (run.attempt, run.status) == (attempt, status)


async def test_b37_a_cancelled_attempt_is_counted_too(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    [claimed] = await house.claim()
    await house.end(claimed, "retry", retry_delay_ms=10, usage_ms=30)
    await house.cancel(run_id)
    await house.end(await house.run(run_id), "cancelled", usage_ms=12)
    assert (await house.run(run_id)).usage_ms == 42


async def test_b95_the_environments_longest_ttl_is_the_default_and_the_bound(house: House) -> None:
    await house.work("t")
    await house.engine.write(lambda tx: tx.execute("UPDATE environments SET max_ttl_ms = 10000"))
    house.engine.catalog.forget()
    found = [(await house.run(await house.trigger(ttl_ms=ttl))).ttl_ms for ttl in (None, 60_000, 0, 5_000)]
    assert found == [10_000, 10_000, 10_000, 5_000]


async def test_b96_runs_of_development_that_nobody_takes_expire(address: Address) -> None:
    async with open_house(address, env="DEVELOPMENT") as house:
        await house.work("t")
        run_id = await house.trigger()
        await house.later(seconds=triggers.DEV_TTL_MS / 1_000 + 1)
        assert (await house.run(run_id)).status is Status.EXPIRED
        await house.assert_sound()


async def test_b97_a_lost_run_whose_ttl_is_over_runs_again(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger(ttl_ms=1_000)
    [claimed] = await house.claim()
    house.clock.advance(seconds=60)
    await house.lose(claimed)
    await house.later(seconds=1)
    assert [(c.run.id, c.run.attempt) for c in await house.claim()] == [(run_id, 2)]
