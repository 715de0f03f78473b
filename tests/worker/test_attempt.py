"""One attempt: the order of its hooks, how it fails, when it is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from outlast import AbortTaskRun, Retry, RunContext, hooks, local, task
from outlast.config import Config
from tests.worker.house import Bench

SOON = Retry(max_attempts=3, min_timeout=0, max_timeout=0)


async def test_the_output_of_an_async_task_is_reported(bench: Bench) -> None:
    @task(id="double")
    async def double(payload: int) -> int:
        return payload * 2

    done = await bench.run("double", 21)
    assert (done.outcome, done.output, done.attempt, done.epoch) == ("ok", "42", 1, 1)


async def test_a_def_task_runs_in_a_thread_and_sees_its_attempt(bench: Bench) -> None:
    import threading

    from outlast import current

    @task(id="where")
    def where(ctx: RunContext) -> list[Any]:
        found = current.required("where")
        return [threading.current_thread() is threading.main_thread(), found.ctx.run.id, ctx.attempt.number]

    run_id = bench.desk.push("where", kind="thread")
    assert (await bench.desk.done(run_id)).output == f'[false,"{run_id}",1]'


async def test_a_payload_that_does_not_fit_is_final_and_named(bench: Bench) -> None:
    class Order(BaseModel):
        id: int

    @task(id="order", retry=SOON)
    async def order(payload: Order) -> int:
        return payload.id

    done = await bench.run("order", {"id": "seven"})
    assert done.outcome == "failed"
    assert done.error is not None and done.error.name == "TaskPayloadParsedError"
    assert "order" in done.error.message


async def test_hooks_run_in_the_promised_order(bench: Bench) -> None:
    seen: list[str] = []

    @task(id="ordered")
    async def ordered(payload: int) -> int:
        seen.append("run")
        return payload

    @hooks.middleware
    async def outer(next: hooks.Next) -> None:
        seen.append("global middleware in")
        await next()
        seen.append("global middleware out")

    @ordered.middleware
    async def inner(next: hooks.Next, payload: int) -> None:
        seen.append(f"task middleware in {payload}")
        await next()
        seen.append("task middleware out")

    for name in ("on_start_attempt", "on_success", "on_complete", "on_failure", "on_cancel"):
        getattr(hooks, name)(_noting(seen, f"global {name}"))
        getattr(ordered, name)(_noting(seen, f"task {name}"))
    await bench.run("ordered", 1)
    assert seen == [
        "global middleware in",
        "task middleware in 1",
        "global on_start_attempt",
        "task on_start_attempt",
        "run",
        "task middleware out",
        "global middleware out",
        "global on_success",
        "task on_success",
        "global on_complete",
        "task on_complete",
    ]


def _noting(seen: list[str], what: str) -> Any:
    async def note() -> None:
        seen.append(what)

    return note


async def test_on_failure_and_on_complete_run_only_when_there_is_no_retry(bench: Bench) -> None:
    seen: list[str] = []

    @task(id="failing", retry=Retry(max_attempts=2, min_timeout=0, max_timeout=0))
    async def failing(ctx: RunContext) -> None:
        raise ValueError(f"attempt {ctx.attempt.number}")

    @failing.on_failure
    async def failed(error: Exception) -> None:
        seen.append(f"failure: {error}")

    @failing.on_complete
    async def complete(result: dict[str, Any]) -> None:
        seen.append(f"complete: {result['ok']} {result['error']}")

    run_id = bench.desk.push("failing")
    first, second = await bench.desk.done(run_id, 1), await bench.desk.done(run_id, 2)
    assert (first.outcome, second.outcome) == ("retry", "failed")
    assert seen == ["failure: attempt 2", "complete: False attempt 2"]


async def test_the_hooks_of_a_def_task_are_given_its_values(bench: Bench) -> None:
    seen: list[Any] = []

    @task(id="sync")
    def sync(payload: int) -> int:
        return payload + 1

    @sync.on_success
    def success(payload: int, output: int) -> None:
        seen.append((payload, output))

    await bench.run("sync", 1, kind="thread")
    assert seen == [(1, 2)]


async def test_next_raises_what_the_run_raised_and_middleware_may_swallow_nothing_by_accident(bench: Bench) -> None:
    seen: list[str] = []

    @task(id="raises")
    async def raises() -> None:
        raise KeyError("inner")

    @raises.middleware
    async def rolls_back(next: hooks.Next) -> None:
        try:
            await next()
        except KeyError:
            seen.append("rolled back")
            raise

    done = await bench.run("raises")
    assert seen == ["rolled back"]
    assert done.error is not None and (done.error.name, done.error.code) == ("KeyError", "")


async def test_an_error_of_middleware_itself_has_a_code_and_goes_through_catch_error(bench: Bench) -> None:
    seen: list[str] = []

    @task(id="wrapped")
    async def wrapped() -> None: ...

    @wrapped.middleware
    async def broken(next: hooks.Next) -> None:
        raise OSError("no database")

    @wrapped.catch_error
    async def catch(error: Exception) -> None:
        seen.append(str(error))

    done = await bench.run("wrapped")
    assert seen == ["no database"]
    assert done.error is not None and done.error.code == "TASK_MIDDLEWARE_ERROR" and "no database" in done.error.message


async def test_on_start_attempt_that_raises_fails_the_attempt(bench: Bench) -> None:
    @task(id="starting", retry=SOON)
    async def starting() -> None: ...

    @starting.on_start_attempt
    async def start(ctx: RunContext) -> None:
        if ctx.attempt.number == 1:
            raise RuntimeError("not ready")

    run_id = bench.desk.push("starting")
    assert (await bench.desk.done(run_id, 1)).outcome == "retry"
    assert (await bench.desk.done(run_id, 2)).outcome == "ok"


@pytest.mark.parametrize("raised", [ValueError("late"), SystemExit(3)])
async def test_what_on_success_raises_is_logged_and_changes_nothing(bench: Bench, raised: BaseException) -> None:
    @task(id="fine")
    async def fine() -> str:
        return "fine"

    @fine.on_success
    async def success() -> None:
        raise raised

    run_id = bench.desk.push("fine")
    assert (await bench.desk.done(run_id)).outcome == "ok"
    assert any("on_success hook success raised" in text for text in bench.desk.texts(run_id))


@pytest.mark.parametrize(
    ("answer", "outcome", "delay"),
    [
        (None, "retry", 7_000),
        ({"skip_retrying": True}, "failed", 0),
        ({"retry_delay_in_ms": 1_234}, "retry", 1_234),
        ({"retry_at": datetime(2000, 1, 1, tzinfo=UTC)}, "retry", 0),
        ({"retry": Retry(max_attempts=9, min_timeout=3, factor=1, randomize=False)}, "retry", 3_000),
        ({"retry": Retry(max_attempts=1)}, "failed", 0),
    ],
)
async def test_catch_error_decides(bench: Bench, answer: Any, outcome: str, delay: int) -> None:
    @task(id="caught", retry=Retry(max_attempts=3, min_timeout=7, factor=1, randomize=False))
    async def caught() -> None:
        raise ValueError

    @caught.catch_error
    async def catch() -> Any:
        return answer

    done = await bench.run("caught")
    assert (done.outcome, done.retry_delay_ms) == (outcome, delay)


async def test_catch_error_at_a_time_waits_until_then(bench: Bench) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)

    @task(id="later", retry=SOON)
    async def later() -> None:
        raise ValueError

    @later.catch_error
    async def catch() -> Any:
        return {"retry_at": at}

    assert 3_500_000 < (await bench.run("later")).retry_delay_ms <= 3_600_000


async def test_the_tasks_catch_error_is_asked_first_and_may_replace_the_error(bench: Bench) -> None:
    asked: list[str] = []

    @task(id="replaced")
    async def replaced() -> None:
        raise ValueError("raw")

    @hooks.catch_error
    async def of_all() -> Any:
        asked.append("all")

    @replaced.catch_error
    async def of_task(error: Exception) -> Any:
        asked.append("task")
        return {"error": LookupError(f"nicer than {error}"), "skip_retrying": True}

    done = await bench.run("replaced")
    assert asked == ["task"]
    assert done.error is not None and (done.error.name, done.error.message) == ("LookupError", "nicer than raw")


async def test_catch_error_that_raises_is_an_error_of_its_own(bench: Bench) -> None:
    @task(id="double.fault")
    async def fault() -> None:
        raise ValueError

    @fault.catch_error
    async def catch() -> Any:
        raise RuntimeError("in the hook")

    done = await bench.run("double.fault")
    assert done.error is not None and done.error.code == "HANDLE_ERROR_ERROR" and "in the hook" in done.error.message


async def test_a_delay_from_catch_error_does_not_pass_the_limit_of_attempts(bench: Bench) -> None:
    @task(id="limited", retry=Retry(max_attempts=2))
    async def limited() -> None:
        raise ValueError

    @limited.catch_error
    async def catch() -> Any:
        return {"retry_delay_in_ms": 0}

    run_id = bench.desk.push("limited")
    assert [(await bench.desk.done(run_id, n)).outcome for n in (1, 2)] == ["retry", "failed"]


async def test_abort_is_never_tried_again(bench: Bench) -> None:
    @task(id="abort", retry=SOON)
    async def abort() -> None:
        raise AbortTaskRun("enough")

    done = await bench.run("abort")
    assert done.outcome == "failed" and done.error is not None and done.error.message == "enough"


async def test_without_a_policy_there_is_no_retry(bench: Bench) -> None:
    @task(id="once")
    async def once() -> None:
        raise ValueError

    assert (await bench.run("once")).outcome == "failed"


async def test_the_configs_policy_holds_for_tasks_without_one() -> None:
    bench = Bench(Config(retries=Retry(max_attempts=2, min_timeout=5, randomize=False)))
    await bench.connect()

    @task(id="by.config")
    async def by_config() -> None:
        raise ValueError

    done = await bench.run("by.config")
    assert (done.outcome, done.retry_delay_ms) == ("retry", 5_000)
    await bench.close()


async def test_max_attempts_of_the_trigger_wins(bench: Bench) -> None:
    @task(id="told", retry=SOON)
    async def told() -> None:
        raise ValueError

    assert (await bench.run("told", max_attempts=1)).outcome == "failed"


async def test_a_retry_after_a_short_pause_runs_in_place(bench: Bench) -> None:
    @task(id="again", retry=SOON)
    async def again(ctx: RunContext) -> int:
        if ctx.attempt.number < 3:
            raise ValueError
        return ctx.attempt.number

    run_id = bench.desk.push("again")
    assert [(await bench.desk.done(run_id, n)).attempt for n in (1, 2, 3)] == [1, 2, 3]
    assert bench.desk.dones(run_id)[-1].output == "3"


async def test_a_long_pause_is_the_servers_and_the_run_is_forgotten_here(bench: Bench) -> None:
    @task(id="slow.retry", retry=Retry(min_timeout=60, max_timeout=60, randomize=False))
    async def slow() -> None:
        raise ValueError

    done = await bench.run("slow.retry")
    assert done.retry_delay_ms == 60_000
    await bench.core.idle.wait()
    assert not bench.core.held


async def test_locals_are_shared_in_one_attempt(bench: Bench) -> None:
    connection = local("connection", type=str)

    @task(id="locals")
    async def uses() -> str:
        return connection.get()

    @uses.middleware
    async def opens(next: hooks.Next) -> None:
        connection.set("open")
        await next()

    assert (await bench.run("locals")).output == '"open"'
