"""What the server answers, as Python sees it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from outlast.results import RunError

Out = TypeVar("Out", covariant=True)
T = TypeVar("T")


class RunHandle(msgspec.Struct, Generic[T], frozen=True):
    """A run that was triggered. `is_cached`: its idempotency key had made it before."""

    id: str
    is_cached: bool = False
    public_access_token: str = ""
    task_identifier: str = ""


class BatchHandle(msgspec.Struct, frozen=True):
    """A batch that was triggered. `retrieve` it for its runs."""

    id: str
    run_count: int = 0
    public_access_token: str = ""

    @property
    def batch_id(self) -> str:
        return self.id


class Page(msgspec.Struct, Generic[T], frozen=True):
    data: list[T]
    next: str | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A run as the server shows it. Times are aware UTC, durations milliseconds."""

    id: str
    status: str
    task_identifier: str
    version: str | None = None
    is_queued: bool = False
    is_executing: bool = False
    is_waiting: bool = False
    is_completed: bool = False
    is_success: bool = False
    is_failed: bool = False
    is_cancelled: bool = False
    is_test: bool = False
    idempotency_key: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    delayed_until: datetime | None = None
    expired_at: datetime | None = None
    ttl: str | None = None
    tags: list[str] = []
    duration_ms: float = 0
    cpu_ms: float = 0
    peak_memory: int | None = None  # bytes; of runs that have a process to themselves
    depth: int = 0
    streams: list[str] = []  # its output streams, as far as they have begun; known to subscriptions only
    batch_id: str | None = None
    trigger_function: str = "trigger"
    metadata: dict[str, Any] | None = None
    payload: Any = None
    output: Any = None
    error: RunError | None = None
    attempt_count: int = 0
    related_runs: dict[str, Any] = {}
    payload_presigned_url: str | None = None  # a large value is fetched from there, which `runs.retrieve` does by itself
    output_presigned_url: str | None = None


class BatchError(msgspec.Struct, frozen=True, rename="camel"):
    index: int
    task_identifier: str
    error: str
    error_code: str | None = None


class BatchState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`status` is PENDING, PROCESSING, COMPLETED, PARTIAL_FAILED or ABORTED; `runs` are ids in the order of the items."""

    id: str
    status: str
    created_at: datetime
    updated_at: datetime
    run_count: int
    runs: list[str] = []
    successful_run_count: int | None = None
    failed_run_count: int | None = None
    errors: list[BatchError] = []
    idempotency_key: str | None = None


class Concurrency(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    current: int | None = None
    base: int | None = None
    override: int | None = None
    overridden_at: datetime | None = None
    overridden_by: str | None = None


class Rate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """So many starts in a period."""

    limit: int
    period_ms: int
    burst: int = 1
    per_key: bool = False


class QueueState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A queue now. `type` is task (a task's own) or custom."""

    id: str
    name: str
    type: str
    running: int
    queued: int
    paused: bool
    concurrency_limit: int | None = None
    concurrency: Concurrency | None = None
    combined_concurrency_limit: int | None = None
    rate_limit: Rate | None = None
    max_size: int | None = None


class Generator(msgspec.Struct, frozen=True):
    """What makes a schedule's times: a cron expression, and what it says in English."""

    expression: str
    description: str = ""


class AlertChannel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who is told of what. `secret` signs webhooks, and is known only when the channel is made."""

    id: str
    name: str
    type: str
    target: str
    events: list[str]
    tasks: list[str] = []
    enabled: bool = True
    latency_seconds: int = 300
    secret: str | None = None


class AlertDelivery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`status` is PENDING, DELIVERED or FAILED; `ref` the run or queue; `grouped`: how many more of the kind it stands for."""

    id: str
    event: str
    ref: str
    status: str
    tries: int = 0
    grouped: int = 0
    created_at: datetime
    next_at: datetime | None = None
    error: str | None = None


class EnvVar(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A variable; the value of a secret is not shown."""

    name: str
    value: str
    is_secret: bool = False


class BulkCounts(msgspec.Struct, frozen=True):
    total: int = 0
    success: int = 0
    failure: int = 0


class BulkAction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A bulk action now. `type` is CANCEL or REPLAY, `status` PENDING, COMPLETED or ABORTED."""

    id: str
    type: str
    status: str
    counts: BulkCounts = BulkCounts()
    name: str | None = None
    created_at: datetime
    completed_at: datetime | None = None
    undo_of: str | None = None


class ScheduleState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A schedule now. `next_run` is its next nominal time, `next_run_effective_at` when it fires (a window spreads it)."""

    id: str
    type: str
    task: str
    active: bool
    generator: Generator
    timezone: str
    deduplication_key: str | None = None
    external_id: str | None = None
    window: str | None = None
    overlap: str = "allow"
    catch_up: str = "none"
    next_run: datetime | None = None
    next_run_effective_at: datetime | None = None
    last_run: datetime | None = None
    last_run_id: str | None = None
    pause_reason: str | None = None

    @property
    def cron(self) -> str:
        return self.generator.expression


class Tick(msgspec.Struct, frozen=True, rename="camel"):
    """What was done at a nominal time of a schedule: a run, or the reason why there is none."""

    timestamp: datetime
    at: datetime
    run_id: str | None = None
    reason: str | None = None


class DeploymentState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A version of an environment's code."""

    id: str
    version: str
    short_code: str
    status: str
    runtime: str | None = None
    runtime_version: str | None = None
    created_at: datetime
    deployed_at: datetime | None = None


class LogLine(msgspec.Struct, frozen=True):
    """One line of a run; `at` is UTC milliseconds."""

    n: int
    at: int
    attempt: int
    level: str
    source: str
    message: str
    data: dict[str, Any] | None = None


def parse_run(answer: dict[str, Any]) -> Run:
    error = answer.get("error")
    if error is not None:
        answer = {
            **answer,
            "error": {
                "name": error.get("name") or "",
                "message": error.get("message", ""),
                "stack": error.get("stackTrace"),
                "code": error.get("code") or "",
            },
        }
    return msgspec.convert(answer, Run)


class TokenHandle(msgspec.Struct, frozen=True):
    """A token that was made. `url` completes it by a POST, without a key: give it to nobody but whoever may."""

    id: str
    url: str = ""
    public_access_token: str = ""
    is_cached: bool = False


class Token(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token as the server shows it. `status` is WAITING, COMPLETED or TIMED_OUT."""

    id: str
    url: str
    status: str
    tags: list[str] = []
    idempotency_key: str | None = None
    timeout_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    output: Any = None
    output_type: str | None = None
    output_is_error: bool = False
