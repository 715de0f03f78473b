"""Rows of the security page on the worker's channel: whoever has a worker's key can say anything on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import pytest
import pytest_asyncio

from outlast.model.failure import Failure
from outlast.model.limits import MAX_ERROR_STACK_CHARS, MAX_OUTPUT_BYTES, MAX_REGISTERED_TASKS, MAX_SCHEMA_BYTES
from outlast.model.manifest import PROTOCOL, Manifest, QueueDefinition, ScheduleDefinition, TaskDefinition
from outlast.model.messages import Credit, Done, Hello, Join, Joined, Log, LogLine, Ok, Refused, Rejected, Release, RunPush, Welcome
from tests.crash_points.test_channel import Wire
from tests.server.conftest import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROD, STAGING = 3, 2


class Worker(NamedTuple):
    supervisor: Wire
    executor: Wire


async def worker(server: Server, env_id: int) -> Worker:
    """With a task of its own in every environment, which no other worker takes."""
    supervisor, executor = Wire(server.runtime.channel, env_id), Wire(server.runtime.channel, None)
    manifest = Manifest(python="3.11", content_hash="worker-rows", tasks=[TaskDefinition(id="t"), TaskDefinition(id=f"own.{env_id}")])
    welcome = await supervisor.ask(Hello(PROTOCOL, "w", "b", manifest, True), Welcome)
    await executor.ask(Join(welcome.session, "x", welcome.token, []), Joined)
    return Worker(supervisor, executor)


async def claimed(server: Server, w: Worker) -> RunPush:
    made = (await server.trigger("own.3")).json()["id"]
    push = await w.executor.ask(Credit(10, 0), RunPush)
    while push.run_id != made:
        push = await w.executor.told(RunPush)
    return push


@pytest_asyncio.fixture(loop_scope="module")
async def ours(shared: Server) -> AsyncIterator[Worker]:
    found = await worker(shared, PROD)
    yield found
    found.executor.hang_up()
    found.supervisor.hang_up()


async def status(server: Server, run_id: str) -> str:
    return (await server.ask("GET", f"/api/v3/runs/{run_id}")).json()["status"]


async def test_row_61_only_who_has_a_run_ends_it(shared: Server, ours: Worker) -> None:
    push = await claimed(shared, ours)
    end = Done(1, push.run_id, push.epoch, push.attempt, "ok", "1")
    theirs = await worker(shared, STAGING)
    refused = await theirs.executor.ask(end, Refused)
    assert (refused.code, refused.over) == ("forbidden", True)
    assert (await theirs.executor.ask(Release(2, push.run_id, push.epoch, "drain"), Refused)).code == "forbidden"
    theirs.executor.hang_up()
    theirs.supervisor.hang_up()
    stale = msgspec.structs.replace(end, n=3, epoch=push.epoch + 1)
    assert (await ours.executor.ask(stale, Refused)).code == "stale_epoch"
    assert (await ours.executor.ask(msgspec.structs.replace(end, n=4, run_id="run_none"), Refused)).code == "not_found"
    stranger = Wire(shared.runtime.channel, None)
    assert (await stranger.ask(end, Refused)).code == "unauthorized"
    assert (await stranger.ask(Join("session_none", "x", "guess", []), Rejected)).code == "unauthorized"
    assert await status(shared, push.run_id) == "EXECUTING"
    await ours.executor.ask(msgspec.structs.replace(end, n=5), Ok)
    assert await status(shared, push.run_id) == "COMPLETED"


async def test_row_62_an_end_that_makes_no_sense_is_refused_and_the_run_still_ends(shared: Server, ours: Worker) -> None:
    push = await claimed(shared, ours)
    end = Done(1, push.run_id, push.epoch, push.attempt, "ok", "1")
    error = Failure(name="E", message="m" * 10_000, stack="s" * 10_000_000)
    for wrong in (
        {"error": error},  # both
        {"outcome": "failed", "output": None},  # neither
        {"attempt": 0},
        {"attempt": -1},
        {"attempt": 2**40},
        {"epoch": 0},
        {"retry_delay_ms": -1},
    ):
        assert (await ours.executor.ask(msgspec.structs.replace(end, **wrong), Refused)).code in ("invalid", "stale_epoch"), wrong
    assert await status(shared, push.run_id) == "EXECUTING"
    await ours.executor.ask(msgspec.structs.replace(end, outcome="failed", output=None, error=error), Ok)
    found = (await shared.ask("GET", f"/api/v3/runs/{push.run_id}")).json()
    assert (found["status"], len(found["error"]["stackTrace"]) <= MAX_ERROR_STACK_CHARS) == ("FAILED", True)


async def test_row_62_an_output_that_is_too_large_fails_its_run(shared: Server, ours: Worker) -> None:
    push = await claimed(shared, ours)
    output = '"' + "x" * MAX_OUTPUT_BYTES + '"'
    await ours.executor.ask(Done(1, push.run_id, push.epoch, push.attempt, "ok", output), Ok)
    assert await status(shared, push.run_id) in ("FAILED", "CRASHED", "SYSTEM_FAILURE")


async def test_row_81_lines_and_spans_of_others_are_dropped(shared: Server, ours: Worker) -> None:
    push, other = await claimed(shared, ours), (await shared.trigger(env="dev")).json()["id"]
    lines = [LogLine(run_id, 1, 1, "info", source, "said") for run_id in (push.run_id, other) for source in ("logger", "span")]
    stranger = Wire(shared.runtime.channel, None)
    stranger.say(Log([LogLine(push.run_id, 1, 1, "info", "logger", "from nobody")]))
    await stranger.ask(Join("session_none", "x", "guess", []), Rejected)
    ours.executor.say(Log(lines))
    await ours.executor.ask(Done(1, push.run_id, push.epoch, push.attempt, "ok", "1"), Ok)
    async with asyncio.timeout(30):
        while "said" not in (logs := (await shared.ask("GET", f"/api/outlast/v1/runs/{push.run_id}/logs")).text):
            await asyncio.sleep(0.01)
    assert "from nobody" not in logs
    assert "said" not in (await shared.ask("GET", f"/api/outlast/v1/runs/{other}/logs", env="dev")).text


def task(id: str = "t", **fields: object) -> TaskDefinition:
    return TaskDefinition(id=id, file=f"{id}.py", **fields)  # type: ignore[arg-type] - any of them


MANIFESTS: dict[str, tuple[list[TaskDefinition], list[QueueDefinition]]] = {
    "at most 10000": ([task(f"t{n}") for n in range(MAX_REGISTERED_TASKS + 1)], []),
    "two tasks have the id 't': in 't.py' and 'u.py'": ([task(), TaskDefinition(id="t", file="u.py")], []),
    "task id 'a b'": ([task("a b")], []),
    "schema of task 't'": ([task(payload_schema={"a": "x" * MAX_SCHEMA_BYTES})], []),
    "nickname": ([task(schedule=ScheduleDefinition(cron="@reboot"))], []),
    "timezone": ([task(schedule=ScheduleDefinition(cron="* * * * *", timezone="../../etc/passwd"))], []),
    "window": ([task(schedule=ScheduleDefinition(cron="* * * * *", window="200%"))], []),
    "queue name": ([], [QueueDefinition(name="a|b")]),
    "concurrency_limit": ([task(queue=QueueDefinition(name="q", concurrency_limit=-1))], []),
}


@pytest.mark.parametrize("wrong", MANIFESTS)
async def test_row_64_a_version_that_cannot_be_is_refused_by_name(shared: Server, wrong: str) -> None:
    tasks, queues = MANIFESTS[wrong]
    manifest = Manifest(python="3.11", content_hash=wrong, tasks=tasks, queues=queues)
    wire = Wire(shared.runtime.channel, PROD)
    refused = await wire.ask(Hello(PROTOCOL, "w", "b", manifest, True), Rejected)
    assert (refused.code, wrong in refused.message) == ("invalid", True), refused.message
    wire.hang_up()
