"""Items that meet in one flush: each sees what the earlier ones did."""

from __future__ import annotations

import asyncio
from typing import Any

from outlast.engine import attempts, control, triggers
from outlast.engine.operation import Call
from outlast.model.refusal import Refusal
from outlast.model.requests import BatchCreated, Cancel, Complete, CreateBatch, Trigger, Triggered
from outlast.model.result import Result
from outlast.model.run import Execution, Status
from outlast.store import batches, events
from tests.engine.house import House


def result(epoch: int = 1, attempt: int = 1, output: str = "1") -> Result:
    return Result(epoch=epoch, attempt=attempt, outcome="ok", output=output)


async def together(house: House, *calls: Any) -> list[Any]:
    """All in one flush: they are submitted in one turn of the loop."""
    return await asyncio.gather(*[house.engine.submit(operation, item) for operation, item in calls])


async def test_one_key_twice_makes_one_run(house: House) -> None:
    await house.work("t")
    item = Trigger(env_id=1, task="t", idempotency_hash="k")
    first, second = await together(house, (triggers.trigger, item), (triggers.trigger, item))
    assert (first.is_cached, second.is_cached) == (False, True)
    assert first.run_id == second.run_id


async def test_one_request_twice_makes_one_run(house: House) -> None:
    await house.work("t")
    item = Trigger(env_id=1, task="t", request_id="r")
    first, second = await together(house, (triggers.trigger, item), (triggers.trigger, item))
    assert first == second
    assert await house.counts("task/t") == (0, 1)


async def test_a_run_made_and_cancelled_in_one_flush_is_never_queued(house: House) -> None:
    await house.work("t")
    made: list[str] = []

    def cancel_it() -> Call:
        return Call(control.cancel, Cancel(env_id=1, run_id=made[0]))

    # the id is only known inside the flush, so the flush is driven by hand
    def decide(view: Any, item: Trigger) -> Any:
        answer = triggers.trigger.decide(view, item)
        assert isinstance(answer, Triggered)
        made.append(answer.run_id)
        return control.cancel.decide(view, cancel_it().item)

    from outlast.engine.operation import Operation

    both: Operation[Trigger, Any] = Operation("both", triggers.trigger.needs, decide, triggers.trigger.lanes)
    await house.engine.call(both, Trigger(env_id=1, task="t"))
    run = await house.run(made[0])
    assert (run.status, run.execution, run.snapshot) == (Status.CANCELED, Execution.FINISHED, 1)
    assert await house.counts("task/t") == (0, 0)
    assert await house.history(run.id) == ["triggered, cancelled"]


async def test_the_second_of_two_completions_gets_the_recorded_answer(house: House) -> None:
    await house.work("t")
    await house.trigger()
    [claimed] = await house.claim()
    item = Complete(run_id=claimed.run.id, session="s", result=result())
    other = Complete(run_id=claimed.run.id, session="s", result=result(output="2"))
    first, again, conflict = await together(house, (attempts.complete, item), (attempts.complete, item), (attempts.complete, other))
    assert (first.repeat, again.repeat) == (False, True)
    assert isinstance(conflict, Refusal)
    assert (await house.data(claimed.run.id)).output == "1"


async def test_complete_and_cancel_the_first_wins(house: House) -> None:
    await house.work("t")
    for order in (0, 1):
        await house.trigger()
        [claimed] = await house.claim()
        end = (attempts.complete, Complete(run_id=claimed.run.id, session="s", result=result()))
        stop = (control.cancel, Cancel(env_id=1, run_id=claimed.run.id))
        await together(house, *([end, stop] if order == 0 else [stop, end]))
        run = await house.run(claimed.run.id)
        assert run.status is (Status.COMPLETED if order == 0 else Status.CANCELED)
        assert run.execution is Execution.FINISHED


async def test_members_of_one_batch_that_end_together_count_it_down_once_each(house: House) -> None:
    await house.work("t")
    made = await house.engine.call(triggers.create_batch, CreateBatch(env_id=1, count=3))
    assert isinstance(made, BatchCreated)
    for index in range(3):
        await house.engine.call(triggers.trigger, Trigger(env_id=1, task="t", batch_id=made.batch_id, batch_index=index))
    claimed = await house.claim(3)
    await together(house, *[(attempts.complete, Complete(run_id=c.run.id, session="s", result=result())) for c in claimed])
    batch = await house.engine.read(lambda tx: batches.read(tx, 1, made.batch_id))
    assert batch is not None
    assert (batch.remaining, batch.status) == (0, "COMPLETED")


async def test_one_limit_and_two_candidates_one_is_claimed(house: House) -> None:
    from outlast.model.manifest import QueueDefinition, TaskDefinition

    await house.work(TaskDefinition(id="t", queue=QueueDefinition(name="q", concurrency_limit=1)))
    house.free = 10
    await together(house, *[(triggers.trigger, Trigger(env_id=1, task="t")) for _ in range(5)])
    assert len(house.claimed) == 1
    house.free = 0


async def test_a_guilty_item_fails_alone(house: House) -> None:
    await house.work("t")
    # text with NUL is refused at the edge; here it stands for whatever a database may refuse
    items = [Trigger(env_id=1, task="t", concurrency_key=None, payload="1") for _ in range(20)]
    bad = Trigger(env_id=1, task="t", payload="\ud800")
    calls = [house.engine.submit(triggers.trigger, item) for item in [*items[:10], bad, *items[10:]]]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, BaseException) for answer in answers] == [False] * 10 + [True] + [False] * 10
    assert await house.counts("task/t") == (0, 20)


async def test_a_run_that_changes_twice_in_one_flush_has_one_event(house: House) -> None:
    await house.work("t")
    house.free = 1
    run_id = await house.trigger()
    house.free = 0
    rows = await house.engine.read(lambda tx: events.history(tx, run_id))
    assert [(n, kind) for n, kind, _, _ in rows] == [(1, "triggered, started")]


async def test_a_queue_made_by_a_flush_that_rolled_back_is_forgotten(house: House) -> None:
    from outlast.engine import sessions
    from outlast.engine.operation import Operation
    from outlast.model.manifest import Manifest, TaskDefinition
    from outlast.model.requests import OpenSession
    from outlast.store.database import Again

    tries: list[int] = []

    def once_more(view: Any, item: Trigger) -> Any:
        """After the queue was read in this flush, another transaction gets in the way, once."""
        tries.append(1)
        view.place(1, "fresh", None, None)
        if len(tries) == 1:
            raise Again
        return triggers.trigger.decide(view, item)

    in_the_way: Operation[Trigger, Any] = Operation("in_the_way", triggers.trigger.needs, once_more)
    manifest = Manifest(python="3.11", content_hash="9", tasks=[TaskDefinition(id="fresh")])
    hello = OpenSession(env_id=1, server_id="s", worker="w", boot_id="b", manifest=manifest)
    opened, made = await together(house, (sessions.open_session, hello), (in_the_way, Trigger(env_id=1, task="fresh")))
    house.session, house.version = opened.session, opened.version
    assert [c.run.id for c in await house.claim(1)] == [made.run_id]
