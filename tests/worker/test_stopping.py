"""Runs that must end: cancelled, past their max_duration, given back, or no longer ours."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from outlast import Retry, RunContext, current, hooks, task
from outlast.model.messages import Abandon, CancelPush, Credit, Done, HeldRun, Ok, Release
from tests.worker.desk import run_push
from tests.worker.house import Bench


async def test_a_cancelled_coroutine_gets_cancelled_error_and_is_confirmed(bench: Bench) -> None:
    began, seen = asyncio.Event(), list[str]()

    @task(id="long")
    async def long() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned up")

    run_id = bench.desk.push("long")
    await began.wait()
    await bench.desk.cancel(run_id)
    assert (await bench.desk.done(run_id)).outcome == "cancelled"
    assert seen == ["cleaned up"]


async def test_on_cancel_hooks_run_beside_the_run_and_may_await_its_end(bench: Bench) -> None:
    began, hook_ran = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    @task(id="long")
    async def long() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await hook_ran.wait()  # the hook does not wait for this end
            seen.append("run ended")
            raise

    @long.on_cancel
    async def hook(signal: threading.Event, run_promise: Any, ctx: RunContext) -> None:
        seen.append(f"hook, signal {signal.is_set()}, {current.required('x').ctx.run.id == ctx.run.id}")
        hook_ran.set()
        await run_promise
        seen.append("hook saw the end")

    run_id = bench.desk.push("long")
    await began.wait()
    await bench.desk.cancel(run_id)
    assert (await bench.desk.done(run_id)).outcome == "cancelled"
    assert seen == ["hook, signal True, True", "run ended", "hook saw the end"]


async def test_other_hooks_do_not_run_for_a_cancelled_run(bench: Bench) -> None:
    began, seen = asyncio.Event(), list[str]()

    @task(id="long", retry=Retry(max_attempts=5, min_timeout=0))
    async def long() -> None:
        began.set()
        await asyncio.Event().wait()

    @hooks.on_failure
    async def failure() -> None:
        seen.append("failure")

    @hooks.on_complete
    async def complete() -> None:
        seen.append("complete")

    run_id = bench.desk.push("long")
    await began.wait()
    await bench.desk.cancel(run_id)
    assert (await bench.desk.done(run_id)).outcome == "cancelled" and seen == []


async def test_a_run_that_swallows_its_cancel_is_cancelled_all_the_same(bench: Bench) -> None:
    began = asyncio.Event()

    @task(id="stubborn")
    async def stubborn() -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "never mind"
        return ""

    run_id = bench.desk.push("stubborn")
    await began.wait()
    await bench.desk.cancel(run_id)
    done = await bench.desk.done(run_id)
    assert (done.outcome, done.output) == ("cancelled", None)


async def test_a_run_that_goes_on_after_its_grace_is_given_up_and_confirmed(bench: Bench) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    @task(id="deaf")
    async def deaf() -> None:
        began.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    run_id = bench.desk.push("deaf")
    await began.wait()
    await bench.desk.cancel(run_id, grace_ms=20)
    assert (await bench.desk.done(run_id)).outcome == "cancelled"
    assert not bench.core.held
    release.set()


async def test_a_cancel_in_the_same_frame_as_the_run_leaves_nothing_behind(bench: Bench) -> None:
    called: list[int] = []

    @task(id="never")
    async def never() -> None:
        called.append(1)

    await bench.desk.tell(run_push("run_1", "never"), CancelPush("run_1", 1, 30_000))
    assert (await bench.desk.done("run_1")).outcome == "cancelled"
    assert called == [] and not bench.core.held and bench.core.idle.is_set()


@pytest.mark.parametrize("together", [True, False])
async def test_a_cancel_between_two_attempts_is_confirmed_for_the_next_one(bench: Bench, together: bool) -> None:
    @task(id="pausing", retry=Retry(max_attempts=5, min_timeout=20, randomize=False))
    async def pausing() -> None:
        raise ValueError

    @task(id="quick")
    async def quick() -> None: ...

    if together:  # in one frame with the answer that allows the next attempt
        cancelled = [CancelPush("run_1", 1, 30_000)]
        bench.desk.on_done = lambda done: [Ok(done.n, 2), *cancelled] if done.outcome == "retry" else [Ok(done.n)]
    bench.desk.push("pausing", run_id="run_1")
    await bench.desk.done("run_1")
    if not together:
        await bench.run("quick")  # the answer before it has been taken by now
        assert bench.core.held["run_1"].push.attempt == 2
        await bench.desk.cancel("run_1")
    done = await bench.desk.done("run_1", 2)
    assert (done.outcome, done.attempt) == ("cancelled", 2)


async def test_a_thread_sees_the_signal_and_ends_by_itself(bench: Bench) -> None:
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    @task(id="looping")
    def looping() -> str:
        loop.call_soon_threadsafe(began.set)
        assert current.required("x").cancelled.wait(30)
        return "stopped"

    run_id = bench.desk.push("looping", kind="thread")
    await began.wait()
    await bench.desk.cancel(run_id, kind="thread")
    assert (await bench.desk.done(run_id)).outcome == "cancelled"
    assert not bench.core.stuck


async def test_a_thread_that_does_not_stop_is_fenced_and_takes_its_room_with_it(bench: Bench) -> None:
    began, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @task(id="stuck")
    def stuck() -> None:
        loop.call_soon_threadsafe(began.set)
        release.wait(30)

    run_id = bench.desk.push("stuck", kind="thread")
    await began.wait()
    await bench.desk.cancel(run_id, grace_ms=20, kind="thread")
    assert (await bench.desk.done(run_id)).outcome == "cancelled"
    await bench.desk.first(Credit, lambda c: c.thread_slots == 3)
    release.set()
    await bench.desk.until(lambda: bench.desk.of(Credit)[-1].thread_slots == 4, "the room to come back")


async def test_when_every_thread_is_stuck_a_new_process_is_asked_for() -> None:
    bench = Bench(thread_slots=1)
    asked, release, began = asyncio.Event(), threading.Event(), asyncio.Event()
    bench.core.on_exhausted = asked.set
    loop = asyncio.get_running_loop()

    @task(id="stuck")
    def stuck() -> None:
        loop.call_soon_threadsafe(began.set)
        release.wait(30)

    await bench.connect()
    run_id = bench.desk.push("stuck", kind="thread")
    await began.wait()
    await bench.desk.cancel(run_id, grace_ms=20, kind="thread")
    await asyncio.wait_for(asked.wait(), 30)
    release.set()
    await bench.close()


async def test_an_attempt_past_its_max_duration_is_timed_out_without_hooks_and_without_retry(bench: Bench) -> None:
    seen: list[str] = []

    @task(id="slow", retry=Retry(max_attempts=5, min_timeout=0))
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("finally")

    @slow.on_failure
    async def failure() -> None:
        seen.append("failure")

    @slow.on_cancel
    async def cancel() -> None:
        seen.append("cancel")

    done = await bench.run("slow", max_duration=0.05)
    assert done.outcome == "timed_out"
    assert done.error is not None and (done.error.type, done.error.code) == ("INTERNAL_ERROR", "MAX_DURATION_EXCEEDED")
    assert seen == ["finally"]


async def test_a_limit_that_the_trigger_switched_off_does_not_count(bench: Bench) -> None:
    @task(id="free", max_duration=5)
    async def free() -> str:
        return "done"

    assert (await bench.run("free", max_duration=0.0001, max_duration_off=True)).outcome == "ok"


async def test_a_thread_past_its_max_duration_is_reported_when_it_ends(bench: Bench) -> None:
    @task(id="slow")
    def slow() -> None:
        current.required("x").cancelled.wait(30)

    assert (await bench.run("slow", kind="thread", max_duration=0.05)).outcome == "timed_out"


async def test_abandoned_runs_stop_and_nothing_is_said_of_them(bench: Bench) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    @task(id="long")
    async def long() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    run_id = bench.desk.push("long")
    await began.wait()
    await bench.desk.tell(Abandon([HeldRun(run_id, 1, 1, "x1")]))
    await asyncio.wait_for(ended.wait(), 30)
    await bench.core.idle.wait()
    assert bench.desk.dones() == []


async def test_a_newer_epoch_replaces_the_execution_that_is_here(bench: Bench) -> None:
    began: list[int] = []
    both = asyncio.Event()

    @task(id="twice")
    async def twice(ctx: RunContext) -> int:
        began.append(ctx.attempt.number)
        if len(began) == 1:
            both.set()
            await asyncio.Event().wait()
        return ctx.attempt.number

    await bench.desk.tell(run_push("run_1", "twice"))
    await both.wait()
    await bench.desk.tell(run_push("run_1", "twice", epoch=2, attempt=2))
    done = await bench.desk.done("run_1")
    assert (done.epoch, done.output) == (2, "2") and len(bench.desk.dones()) == 1


async def test_draining_takes_nothing_new_and_gives_back_what_does_not_end(bench: Bench) -> None:
    began = asyncio.Event()

    @task(id="long")
    async def long() -> None:
        began.set()
        await asyncio.Event().wait()

    run_id = bench.desk.push("long")
    await began.wait()
    bench.core.drain()
    await bench.desk.first(Credit, lambda c: c.async_slots == 0)
    await bench.desk.peers[-1].send([run_push("run_late", "long")])
    late = await bench.desk.first(Release, lambda r: r.run_id == "run_late")
    assert late.reason == "not_started"
    bench.core.give_back()
    given = await bench.desk.first(Release, lambda r: r.run_id == run_id)
    assert given.reason == "drain"
    await bench.core.answered()
    assert bench.core.idle.is_set()


async def test_a_warm_retry_is_not_begun_while_draining(bench: Bench) -> None:
    attempts: list[int] = []

    @task(id="failing", retry=Retry(max_attempts=5, min_timeout=0))
    async def failing(ctx: RunContext) -> None:
        attempts.append(ctx.attempt.number)
        bench.core.drain()
        raise ValueError

    run_id = bench.desk.push("failing")
    await bench.desk.first(Release, lambda r: r.run_id == run_id)
    assert attempts == [1]


async def test_while_the_lease_is_in_doubt_nothing_begins(bench: Bench) -> None:
    @task(id="quick")
    async def quick() -> None: ...

    bench.core.pause(True)
    await bench.desk.first(Credit, lambda c: c.async_slots == 0)
    await bench.desk.peers[-1].send([run_push("run_1", "quick")])
    assert (await bench.desk.first(Release)).reason == "not_started"
    bench.core.pause(False)
    await bench.desk.ready()
    assert isinstance(await bench.run("quick"), Done)
