"""A run: one triggering of a task, as its hot row holds it, and what else is kept beside it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Status(StrEnum):
    """What users see."""

    PENDING_VERSION = "PENDING_VERSION"
    DELAYED = "DELAYED"
    QUEUED = "QUEUED"
    DEQUEUED = "DEQUEUED"
    EXECUTING = "EXECUTING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    TIMED_OUT = "TIMED_OUT"
    EXPIRED = "EXPIRED"
    SYSTEM_FAILURE = "SYSTEM_FAILURE"


FINAL = frozenset(
    {Status.COMPLETED, Status.CANCELED, Status.FAILED, Status.CRASHED, Status.TIMED_OUT, Status.EXPIRED, Status.SYSTEM_FAILURE}
)
FAILED = FINAL - {Status.COMPLETED, Status.CANCELED}
RELEASES_KEY = FAILED  # their idempotency keys may be used again; completed and cancelled runs keep theirs


class Execution(StrEnum):
    """Where the engine stands with a run; it decides from this, never from the status."""

    PENDING_VERSION = "PENDING_VERSION"
    DELAYED = "DELAYED"
    QUEUED = "QUEUED"
    DEQUEUED = "DEQUEUED"
    EXECUTING = "EXECUTING"
    EXECUTING_WITH_WAITPOINTS = "EXECUTING_WITH_WAITPOINTS"
    SUSPENDED = "SUSPENDED"
    PENDING_CANCEL = "PENDING_CANCEL"
    FINISHED = "FINISHED"


HOLDS_SLOT = frozenset({Execution.DEQUEUED, Execution.EXECUTING, Execution.EXECUTING_WITH_WAITPOINTS, Execution.PENDING_CANCEL})


class Run(msgspec.Struct, frozen=True, gc=False):
    """The hot row. Times are UTC milliseconds, durations carry their unit; `pos` orders the queue, smallest first."""

    id: str
    env_id: int
    task: str
    queue: str
    status: Status
    execution: Execution
    created_at: int
    updated_at: int
    queue_id: int | None = None  # None until the queue is known
    concurrency_key: str | None = None
    lane_id: int | None = None  # the lane of its entry or of its slot
    pos: int = 0
    route: str = "current"
    epoch: int = 0
    attempt: int = 0
    snapshot: int = 0
    held_by: str | None = None  # the session that holds it
    version: str | None = None
    locked_version: str | None = None  # asked for by the trigger
    parent_id: str | None = None
    parent_key: str | None = None
    root_id: str | None = None
    batch_id: str | None = None
    pending_waits: int = 0  # other runs that wait for this one, beside its parent
    next_seq: int = 0
    cancel_asked: int | None = None
    due_at: int | None = None  # of its timer: delay, ttl, retry or forced cancel
    queued_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    ttl_ms: int | None = None
    max_attempts: int | None = None
    max_duration: float | None = None  # seconds of active time per attempt
    losses: int = 0
    deliveries: int = 0
    depth: int = 0
    usage_ms: int = 0
    cpu_ms: int = 0
    peak_memory: int = 0  # bytes, of the largest process it had to itself; 0: none
    attempt_ms: int = 0  # active time of the attempt, as its executions said when they blocked
    attempt_cpu_ms: int = 0  # its CPU time, the same
    resuming: int = 0  # 1: the next claim goes on with the attempt instead of beginning another
    journal: int = 1  # the attempt whose journal it keeps: a lost worker's is continued, a failed attempt's is not
    executor: str | None = None  # which of the session's executors has its coroutine
    seen_seq: int = 0  # completions its code had been given when it blocked
    detached: int = 0  # 1: a cancel of its parent does not reach it
    gate: str | None = None  # what it holds, or waits for, until it is over: runs of one gate execute one after the other
    gated: int = 0  # 1: it waits for its gate
    is_test: bool = False

    @property
    def is_final(self) -> bool:
        return self.execution is Execution.FINISHED or self.status in FINAL


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a trigger asked for that the engine never decides from: kept as JSON on the cold row, for the API and for replays."""

    idempotency_key: str | None = None  # as the user wrote it, for display
    idempotency_key_hash: str | None = None
    idempotency_key_scope: str | None = None
    idempotency_key_expires_at: int | None = None
    delay: str | None = None
    ttl: str | None = None
    priority: float = 0
    tags: list[str] = []
    machine: str | None = None
    region: str | None = None
    metadata_type: str = "application/json"
    trigger_function: str = "trigger"
    trigger_source: str = "api"
    replay_of: str | None = None
    schedule_id: str | None = None
    bulk_action_id: str | None = None
    traceparent: str | None = None
    public_token_seconds: int | None = None
    streams: list[str] = []  # keys of its output streams
    max_duration_off: bool = False  # the trigger asked for no limit, against the task's own


class RunData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The cold row: values are packets (`data` text and its type), read only when somebody looks or a worker starts."""

    run_id: str
    payload: str | None = None
    payload_type: str = "application/json"
    options: RunOptions = RunOptions()
    metadata: str | None = None
    output: str | None = None
    output_type: str | None = None
    error: str | None = None  # a Failure as JSON
    result_hash: str | None = None  # tells an exact repeat of a completion from another one


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One change of a run: snapshot, audit and outbox at once."""

    run_id: str
    env_id: int
    n: int
    kind: str
    at: int
    data: dict[str, Any] = {}


_BOOL_STATUSES = {
    "isQueued": frozenset({Status.QUEUED, Status.DELAYED, Status.PENDING_VERSION}),
    "isExecuting": frozenset({Status.EXECUTING, Status.DEQUEUED}),
    "isWaiting": frozenset({Status.WAITING}),
    "isCompleted": FINAL,
    "isSuccess": frozenset({Status.COMPLETED}),
    "isFailed": FINAL - {Status.COMPLETED},
    "isCancelled": frozenset({Status.CANCELED}),
}


def status_flags(status: Status) -> dict[str, bool]:
    """The booleans Trigger.dev's REST answers carry beside a status."""
    return {name: status in statuses for name, statuses in _BOOL_STATUSES.items()}
