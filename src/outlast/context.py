"""`ctx`: what a run knows of itself. Frozen, taken when the attempt starts; durations are seconds, times aware UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from outlast.model.messages import RunPush


class TaskInfo(msgspec.Struct, frozen=True):
    id: str
    file_path: str = ""


class AttemptInfo(msgspec.Struct, frozen=True):
    """`number` counts from 1; a wait is no new attempt."""

    number: int
    started_at: datetime


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tags: list[str] = []
    is_test: bool = False
    is_replay: bool = False
    created_at: datetime
    started_at: datetime
    priority: float = 0
    version: str | None = None
    idempotency_key: str | None = None
    idempotency_key_scope: str | None = None
    max_attempts: int | None = None
    max_duration: float | None = None
    parent_task_run_id: str | None = None
    root_task_run_id: str | None = None


class QueueInfo(msgspec.Struct, frozen=True):
    id: str
    name: str


class EnvironmentInfo(msgspec.Struct, frozen=True):
    """`type` is PRODUCTION, STAGING, DEVELOPMENT or PREVIEW."""

    id: str
    slug: str
    type: str


class NamedInfo(msgspec.Struct, frozen=True):
    id: str
    slug: str
    name: str
    ref: str | None = None


class BatchInfo(msgspec.Struct, frozen=True):
    id: str


class MachineInfo(msgspec.Struct, frozen=True):
    name: str


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a run knows of itself.

    Example:
        >>> async def hello(payload: str, ctx: RunContext) -> int:
        ...     return ctx.attempt.number
    """

    task: TaskInfo
    attempt: AttemptInfo
    run: RunInfo
    queue: QueueInfo
    environment: EnvironmentInfo
    organization: NamedInfo
    project: NamedInfo
    batch: BatchInfo | None = None
    machine: MachineInfo | None = None


def build_context(push: RunPush) -> RunContext:
    c: dict[str, Any] = push.context
    run, task, env = c["run"], c["task"], c["environment"]
    return RunContext(
        task=TaskInfo(task["id"], task.get("filePath", "")),
        attempt=AttemptInfo(push.attempt, datetime.now(UTC) if push.attempt > c["attempt"]["number"] else _time(c["attempt"]["startedAt"])),
        run=RunInfo(
            id=push.run_id,
            tags=list(run["tags"]),
            is_test=run["isTest"],
            is_replay=run["isReplay"],
            created_at=_time(run["createdAt"]),
            started_at=_time(run["startedAt"]),
            priority=run.get("priority", 0),
            version=run.get("version"),
            idempotency_key=run.get("idempotencyKey"),
            idempotency_key_scope=run.get("idempotencyKeyScope"),
            max_attempts=run.get("maxAttempts"),
            max_duration=run.get("maxDuration"),
            parent_task_run_id=run.get("parentTaskRunId"),
            root_task_run_id=run.get("rootTaskRunId"),
        ),
        queue=QueueInfo(**c["queue"]),
        environment=EnvironmentInfo(env["id"], env["slug"], env["type"]),
        organization=_named(c.get("organization")),
        project=_named(c.get("project")),
        batch=BatchInfo(c["batch"]["id"]) if "batch" in c else None,
        machine=MachineInfo(c["machine"]["name"]) if "machine" in c else None,
    )


def _named(found: dict[str, Any] | None) -> NamedInfo:
    f = found or {"id": "1", "slug": "default", "name": "default"}
    return NamedInfo(f["id"], f["slug"], f["name"], f.get("ref"))


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)
