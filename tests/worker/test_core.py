"""The channel from the executor's side: what is said twice, lost, refused, or too large."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from outlast import task
from outlast.model.failure import Failure
from outlast.model.messages import (
    MAX_FRAME_MESSAGES,
    Credit,
    Done,
    FromWorker,
    HeldRun,
    Join,
    Log,
    LogLine,
    Refused,
    Release,
    SessionLost,
)
from outlast.worker import unanswered
from outlast.worker.connection import frames
from outlast.worker.core import SessionEnded
from tests.worker.desk import run_push
from tests.worker.house import Bench


async def test_an_executor_says_what_it_holds_then_what_room_it_has(bench: Bench) -> None:
    assert bench.desk.received[:2] == [Join("s1", "x1", "token", []), Credit(10, 4)]


async def test_a_run_sent_twice_runs_once(bench: Bench) -> None:
    calls: list[int] = []

    @task(id="once")
    async def once() -> None:
        calls.append(1)

    await bench.desk.tell(run_push("run_1", "once"), run_push("run_1", "once"))
    await bench.desk.done("run_1")
    await bench.core.idle.wait()
    assert calls == [1]


async def test_a_task_that_is_not_here_is_given_back(bench: Bench) -> None:
    bench.desk.push("unknown", run_id="run_1")
    assert await bench.desk.first(Release) == Release(1, "run_1", 1, "missing_code")


async def test_a_run_goes_on_while_the_connection_is_lost_and_its_end_is_sent_after_the_next_join(bench: Bench) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @task(id="long")
    async def long() -> str:
        began.set()
        await go_on.wait()
        return "survived"

    run_id = bench.desk.push("long")
    await began.wait()
    await bench.disconnect()
    go_on.set()
    await bench.connect()
    assert (await bench.desk.done(run_id)).output == '"survived"'
    assert bench.desk.of(Join)[-1].held == [HeldRun(run_id, 1, 1, "x1")]


async def test_ends_without_an_answer_are_sent_again_in_order_before_anything_new(bench: Bench) -> None:
    @task(id="quick")
    async def quick(payload: int) -> int:
        return payload

    bench.desk.answers = False
    for i in range(3):
        await bench.run("quick", i)
    await bench.disconnect()
    before = len(bench.desk.received)
    bench.desk.answers = True
    await bench.connect()
    await bench.core.answered()
    again = [m for m in bench.desk.received[before:] if isinstance(m, Join | Done | Credit)]
    assert [m.output if isinstance(m, Done) else type(m).__name__ for m in again] == ["Join", "0", "1", "2", "Credit"]
    joined = again[0]
    assert isinstance(joined, Join) and [h.run_id for h in joined.held] == ["run_1", "run_2", "run_3"]


async def test_nothing_is_written_before_the_join_is_answered(bench: Bench) -> None:
    """A write of an executor that has not joined is refused as over: its result would be lost."""
    began, go_on = asyncio.Event(), asyncio.Event()

    @task(id="long")
    async def long() -> None:
        began.set()
        await go_on.wait()

    run_id = bench.desk.push("long")
    await began.wait()
    await bench.disconnect()
    serving = asyncio.create_task(bench.core.serve(await _sends_away(bench), "s1", "token"))
    go_on.set()
    with pytest.raises(SessionEnded):
        await serving
    assert bench.desk.dones() == []
    await bench.connect()
    await bench.desk.done(run_id)


async def _sends_away(bench: Bench):  # type: ignore[no-untyped-def]
    connection = await bench.desk.connect()
    connection._frames.put_nowait([SessionLost("the supervisor is not back")])
    return connection


async def test_what_the_server_abandons_at_the_join_is_dropped(bench: Bench) -> None:
    @task(id="quick")
    async def quick() -> None: ...

    bench.desk.answers = False
    run_id = bench.desk.push("quick")
    await bench.desk.done(run_id)
    await bench.disconnect()
    bench.desk.abandon_at_join = [HeldRun(run_id, 1, 1, "x1")]
    await bench.connect()
    await bench.core.answered()
    assert len(bench.desk.dones(run_id)) == 1 and not bench.core.held


async def test_a_write_the_database_could_not_take_is_sent_again(bench: Bench) -> None:
    @task(id="quick")
    async def quick() -> None: ...

    tries: list[int] = []

    def answer(done: Done) -> list:  # type: ignore[type-arg]
        from outlast.model.messages import Ok

        tries.append(done.n)
        return [Refused(done.n, "unavailable", "away", False)] if len(tries) == 1 else [Ok(done.n)]

    bench.desk.on_done = answer
    await bench.desk.done(bench.desk.push("quick"), 2)
    await bench.core.answered()
    assert tries == [1, 1]


async def test_a_result_the_server_does_not_take_becomes_a_failure_so_that_the_run_ends(bench: Bench) -> None:
    from outlast.model.messages import Ok

    @task(id="quick")
    async def quick() -> str:
        return "odd"

    bench.desk.on_done = lambda done: [Refused(done.n, "invalid", "not a result", False)] if done.outcome == "ok" else [Ok(done.n)]
    done = await bench.desk.done(bench.desk.push("quick"), 2)
    assert done.outcome == "failed" and done.error is not None and "not a result" in done.error.message


async def test_a_refused_write_of_a_run_that_is_over_ends_it_here(bench: Bench) -> None:
    @task(id="quick")
    async def quick() -> None: ...

    bench.desk.on_done = lambda done: [Refused(done.n, "stale_epoch", "taken by another", True)]
    bench.desk.push("quick")
    await bench.desk.first(Done)
    await bench.core.idle.wait()
    assert not bench.core.held


async def test_a_defect_while_a_run_begins_still_ends_it(bench: Bench) -> None:
    @task(id="quick")
    async def quick() -> None: ...

    await bench.desk.tell(run_push("run_1", "quick", context={}))
    done = await bench.desk.done("run_1")
    assert done.error is not None and done.error.code == "TASK_EXECUTION_FAILED"


def test_frames_stay_within_what_a_peer_takes() -> None:
    many: list[FromWorker] = [_done(n, "x") for n in range(2 * MAX_FRAME_MESSAGES + 1)]
    assert [len(frame) for frame in frames(many)] == [MAX_FRAME_MESSAGES, MAX_FRAME_MESSAGES, 1]
    large: list[FromWorker] = [_done(1, "x" * 5_000_000), _done(2, "y"), _done(3, "x" * 5_000_000)]
    assert [[m.n for m in frame if isinstance(m, Done)] for frame in frames(large)] == [[1], [2], [3]]
    logs: list[FromWorker] = [Log([LogLine("r", 1, 0, "info", "stdout", "x" * 400_000)]) for _ in range(5)]
    assert [len(frame) for frame in frames(logs)] == [2, 2, 1]


def test_results_beyond_the_memory_limit_lie_in_files_and_come_back_in_order(tmp_path: Path) -> None:
    kept = unanswered.Unanswered(tmp_path / "spool")
    for n in range(1, 6):
        kept.add(_done(n, "x" * 4_000_000))
    assert len(list((tmp_path / "spool").iterdir())) == 3
    assert [m.n for m in kept] == [1, 2, 3, 4, 5]
    assert kept.get(5) == _done(5, "x" * 4_000_000)
    assert [kept.pop(n) for n in range(1, 6)] == [(f"run_{n}", 1) for n in range(1, 6)]
    assert len(kept) == 0 and list((tmp_path / "spool").iterdir()) == []


def test_a_spool_that_cannot_be_written_keeps_results_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = unanswered.Unanswered(tmp_path / "file" / "spool")
    for n in range(1, 5):
        kept.add(_done(n, "x" * 4_000_000))
    assert [m.n for m in kept] == [1, 2, 3, 4]


def _done(n: int, output: str) -> Done:
    return Done(n, f"run_{n}", 1, 1, "ok", output, error=Failure() if output == "" else None)
