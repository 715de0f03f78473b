"""The API page's code for tasks, triggering and embedding runs as written; what comes later is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, EmailStr, NonNegativeInt, ValidationError

from outlast import (
    AbortTaskRun,
    BatchItem,
    Next,
    Outlast,
    Retry,
    RunContext,
    batch,
    hooks,
    local,
    logger,
    queue,
    runs,
    task,
    tasks,
)
from outlast import queues as queue_verbs
from outlast.config import Config
from outlast.errors import NotBuiltYet


class User(BaseModel):
    email: EmailStr
    age: NonNegativeInt


class Connection:
    pass


failures: list[str] = []
connection = local("connection", type=Connection)


@pytest.fixture
def project() -> Any:
    """Section 1 as a user's module would define it."""
    tasks.clear()
    queue_verbs.registry.clear()  # other tests' modules name queues too
    failures.clear()
    emails = queue("emails", concurrency_limit=10)
    queue("paid")

    @task(
        id="users.process.complete",
        retry=Retry(max_attempts=3, factor=2.0, min_timeout=1.0, max_timeout=60.0, randomize=True),
        queue=emails,
        machine="small-1x",
        max_duration=300,
        ttl="10m",
    )
    async def process_user(payload: User, ctx: RunContext) -> dict[str, bool]:
        logger.info("processing", user=payload.email, attempt=ctx.attempt.number)
        assert isinstance(connection.get(), Connection)
        if payload.age > 150:
            raise AbortTaskRun("impossible age")
        return {"processed": True}

    @process_user.on_failure
    async def report(payload: User, error: Exception, ctx: RunContext) -> None:
        failures.append(f"{payload.email}: {error}")

    @hooks.middleware
    async def db(ctx: RunContext, next: Next) -> None:
        connection.set(Connection())
        await next()

    @task(id="other.task")
    def other(payload: dict[str, int]) -> int:
        return payload["x"]

    assert db is not None
    assert report is not None
    assert other.kind == "thread"
    yield process_user
    tasks.clear()


async def test_tasks_and_triggering(project: Any, tmp_path: Path) -> None:
    user = User(email="ada@example.com", age=36)
    async with Outlast(data=tmp_path, config=Config()):
        handle = await project.trigger(user)
        by_id = await tasks.trigger("users.process.complete", {"email": "ada@example.com", "age": 36})
        assert (handle.id.startswith("run_"), handle.is_cached, bool(handle.public_access_token)) == (True, False, True)
        assert (await runs.poll(handle)).output == {"processed": True}
        assert (await runs.poll(by_id.id)).is_success

        late = await project.trigger(
            user, delay="1h", ttl="10m", priority=10, tags=["user:1"], metadata={"plan": "pro"}, idempotency_key="welcome-1",
            idempotency_key_ttl="7d", queue="paid", concurrency_key="tenant-7", max_attempts=5, max_duration=60, machine="medium-1x",
        )  # fmt: skip
        again = await project.trigger(user, idempotency_key="welcome-1")
        assert (again.id, again.is_cached) == (late.id, True)
        found = await runs.retrieve(late)
        assert (found.status, found.tags, found.metadata, found.idempotency_key) == ("DELAYED", ["user:1"], {"plan": "pro"}, "welcome-1")
        assert await runs.cancel(late) == late.id

        many = await project.batch_trigger([user, BatchItem(user, delay="1h")])
        mixed = await batch.trigger([BatchItem(user, task=project), BatchItem({"x": 1}, task="other.task")])
        assert (many.run_count, mixed.run_count) == (2, 2)
        outputs = [(await runs.poll(run_id)).output for run_id in (await batch.retrieve(mixed.id)).runs]
        assert outputs == [{"processed": True}, 1]
        assert [q.name async for q in queue_verbs.list()] == ["emails", "paid", "other.task"]


async def test_a_final_failure_reaches_its_hook_and_its_result(project: Any, tmp_path: Path) -> None:
    async with Outlast(data=tmp_path, config=Config()):
        result = await project.trigger_and_wait(User(email="old@example.com", age=200))
        assert not result.ok
        assert (result.error.name, result.error.message) == ("AbortTaskRun", "impossible age")
        assert failures == ["old@example.com: impossible age"]
        bad = await tasks.trigger("users.process.complete", {"email": "nobody"})
        ended = await runs.poll(bad)
        assert ended.error is not None
        assert (ended.status, ended.error.name, ended.attempt_count) == ("FAILED", "TaskPayloadParsedError", 1)


def test_a_payload_that_does_not_fit_makes_no_run(project: Any) -> None:
    with pytest.raises(ValidationError):
        project.trigger({"email": "nobody", "age": -1})


@pytest.mark.parametrize("options", [{"version": "20261123.1"}])
def test_what_comes_later_is_refused_by_name(project: Any, options: dict[str, Any]) -> None:
    with pytest.raises(NotBuiltYet, match=next(iter(options))):
        project.trigger(User(email="ada@example.com", age=36), **options)


async def test_a_call_without_await_says_so(project: Any) -> None:
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        project.trigger(User(email="ada@example.com", age=36))


def test_define_job_names_its_successor() -> None:
    import outlast

    with pytest.raises(AttributeError, match="@task"):
        outlast.define_job  # noqa: B018
