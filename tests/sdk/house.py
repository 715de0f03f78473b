"""A server at the HTTP edge that records what the SDK sends and answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from outlast import current
from outlast.client import connection
from outlast.client.address import Address
from outlast.client.connection import Connection
from outlast.context import build_context
from outlast.model.messages import RunPush

NOW = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1_000)
Answer = httpx.Response | Exception
RUN = {"id": "run_1", "status": "COMPLETED", "taskIdentifier": "t", "createdAt": "2026-01-01T00:00:00.000Z",
       "updatedAt": "2026-01-01T00:00:00.000Z", "isSuccess": True}  # fmt: skip


class Wire:
    """`asked` are the requests in order; `script` the answers, then `default` for all that follow. `slept` are pauses in seconds."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.slept: list[float] = []
        self.script: list[Answer] = []
        self.default: Callable[[httpx.Request], Answer] = lambda _: httpx.Response(
            200, json={"id": "run_1", "runCount": 1}, headers={"x-trigger-jwt": "jwt"}
        )

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        self.connection = Connection(
            Address("http://server", "tr_dev_sk_x"),
            transport=httpx.MockTransport(self.answer),
            sync_transport=httpx.MockTransport(self.answer),
            sleep=sleep,
            sleep_sync=self.slept.append,
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        found = self.script.pop(0) if self.script else self.default(request)
        if isinstance(found, Exception):
            raise found
        return found

    def body(self, n: int = -1) -> Any:
        return json.loads(self.asked[n].content)

    @property
    def options(self) -> Any:
        return self.body()["options"]


@contextmanager
def connected(wire: Wire) -> Any:
    connection.use(wire.connection)
    try:
        yield wire
    finally:
        connection.stop_using(wire.connection)


def push(task: str = "t", attempt: int = 1) -> RunPush:
    context = {
        "task": {"id": task, "filePath": "tasks/t.py"},
        "attempt": {"number": attempt, "startedAt": NOW},
        "run": {"id": "run_parent", "tags": ["a"], "isTest": False, "isReplay": True, "createdAt": NOW, "startedAt": NOW + 1_000,
                "maxAttempts": 3, "parentTaskRunId": "run_above"},
        "queue": {"id": "queue_1", "name": "emails"},
        "environment": {"id": "1", "slug": "dev", "type": "DEVELOPMENT"},
        "machine": {"name": "small-1x"},
    }  # fmt: skip
    return RunPush("run_parent", 1, attempt, task, "20260101.1", None, "application/json", None, context, 3, None)


@contextmanager
def inside_a_task(attempt: int = 1) -> Any:
    said: list[tuple[str, str, str, Any]] = []
    made = current.Attempt(ctx=build_context(push(attempt=attempt)), emit=lambda *line: said.append(line))
    token = current.attempt.set(made)
    try:
        yield said
    finally:
        current.attempt.reset(token)
