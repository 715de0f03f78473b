"""What the engine is asked: one struct an operation. The edges check and normalise; the engine decides."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from outlast.model.journal import Entry
from outlast.model.limits import MAX_DEBOUNCE_MS
from outlast.model.manifest import Manifest
from outlast.model.messages import LogLine, SideItem
from outlast.model.metadata import AnyOp
from outlast.model.result import Result
from outlast.model.run import RunOptions

GateMode = Literal["skip", "queue", "cancel_previous"]


class DebounceBy(msgspec.Struct, frozen=True, kw_only=True):
    """Calls with one key become one run, `delay_ms` after the last of them; "trailing": with the data of the last."""

    key: str
    delay_ms: int
    mode: Literal["leading", "trailing"] = "leading"
    max_delay_ms: int = MAX_DEBOUNCE_MS


class Trigger(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Make a run. Times are UTC ms; `ttl_ms` 0 switches the task's own ttl off, None takes it."""

    env_id: int
    task: str
    payload: str | None = None
    payload_type: str = "application/json"
    metadata: str | None = None
    options: RunOptions = RunOptions()
    request_id: str | None = None
    request_hash: str | None = None  # of the body: another body under the same id is answered with a warning
    idempotency_hash: str | None = None
    idempotency_ttl_ms: int = 0
    queue: str | None = None
    concurrency_key: str | None = None
    delay_until: int | None = None
    ttl_ms: int | None = None
    priority_ms: int = 0
    max_attempts: int | None = None
    max_duration: float | None = None
    locked_version: str | None = None
    parent_id: str | None = None
    parent_key: str | None = None  # "journal:key" of the entry that waits for it
    batch_id: str | None = None
    batch_index: int | None = None
    is_test: bool = False
    detached: bool = False  # a cancel of its parent does not reach it
    once: str | None = None  # hash of a one-time token: burnt by the run that is made
    once_until: int = 0  # when the token expires by itself
    debounce: DebounceBy | None = None
    gate: tuple[str, GateMode] | None = None  # instead of the task's own: runs of one gate execute one after the other


class Triggered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`is_cached`: its idempotency key had made it. `is_repeat`: the item of the batch was known, or the request."""

    run_id: str
    is_cached: bool = False
    is_repeat: bool = False
    is_skipped: bool = False  # its gate is taken, by the run that is named here
    warning: str | None = None


class CreateBatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    env_id: int
    count: int
    request_id: str | None = None
    parent_id: str | None = None
    parent_key: str | None = None
    idempotency_key: str | None = None  # as the user wrote it
    idempotency_hash: str | None = None
    idempotency_ttl_ms: int = 0
    once: str | None = None  # as of Trigger
    once_until: int = 0


class BatchCreated(msgspec.Struct, frozen=True, kw_only=True):
    batch_id: str
    is_cached: bool = False


class FailBatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item that could not be triggered: the batch goes on and names it."""

    env_id: int
    batch_id: str
    index: int
    task: str
    error: str


class AbortBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The time is over by which all items of the batch should have arrived."""

    batch_id: str
    due_at: int


class Complete(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    run_id: str
    session: str
    result: Result


class Completed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`attempt` is the next one when the run is tried again in place, else None."""

    attempt: int | None = None
    repeat: bool = False


class GiveBack(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    run_id: str
    epoch: int
    reason: str


class Lose(msgspec.Struct, frozen=True, kw_only=True):
    """A worker or executor is gone. `started` is False when the run's code certainly never began.

    `stalled`: nobody saw it die, its lease ran out; in development the laptop was closed, and the run is not tried again.
    """

    run_id: str
    epoch: int
    started: bool = True
    stalled: bool = False


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    run_id: str
    reason: str = "Run was cancelled"


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Trigger the run again, with `overrides` by the names of `Trigger` (and of `RunOptions` under `options`)."""

    env_id: int
    run_id: str
    overrides: dict[str, Any] = {}
    request_id: str | None = None


class ChangeMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Asked for from outside the run. `replaced` is the whole new object, before the operations."""

    env_id: int
    run_id: str
    replaced: dict[str, Any] | None = None
    ops: list[AnyOp] = []
    parent_ops: list[AnyOp] = []
    root_ops: list[AnyOp] = []
    request_id: str | None = None


class SideWrite(msgspec.Struct, frozen=True, kw_only=True):
    """Writes of an executing run to metadata or a stream; `whose` is self, parent, root or a run's id."""

    run_id: str
    epoch: int
    journal: int
    target: str
    whose: str
    stream: str | None = None  # None: metadata
    items: list[SideItem] = []
    ops: list[AnyOp] = []  # of metadata, one for each item; a stream takes the items' values as they are


class Reschedule(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    run_id: str
    due_at: int


class AddTags(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    run_id: str
    tags: list[str]


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    """A worker says hello: its manifest becomes a version, or joins the one with the same digest."""

    env_id: int
    server_id: str
    worker: str
    boot_id: str
    manifest: Manifest
    promote: bool = True


class SessionOpened(msgspec.Struct, frozen=True, kw_only=True):
    session: str
    version: str
    is_current: bool


class TakeSession(msgspec.Struct, frozen=True, kw_only=True):
    """A worker came back, perhaps to another server."""

    env_id: int
    session: str
    server_id: str


class SessionTaken(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    is_current: bool


class Beats(msgspec.Struct, frozen=True, kw_only=True):
    session: str


class CloseSession(msgspec.Struct, frozen=True, kw_only=True):
    """The worker said goodbye, or its lease is over (`lapsed`, checked again under the lock)."""

    session: str
    lapsed: bool = False


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A timer of a run has come."""

    run_id: str
    due_at: int


class CancelChildren(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a cancel's cascade: `children` were found under the parent.

    `for_attempt`: an attempt is tried again; what that finds again, or was made to go on, goes on.
    """

    work_id: str
    parent_id: str
    children: list[str]
    reason: str = "Parent run {parent} was cancelled"
    for_attempt: bool = False


class Unpark(msgspec.Struct, frozen=True, kw_only=True):
    """A version was registered: this parked run may be known now."""

    env_id: int
    run_id: str
    task: str
    queue: str | None
    concurrency_key: str | None = None


class DropWork(msgspec.Struct, frozen=True, kw_only=True):
    work_id: str


class AppendLogs(msgspec.Struct, frozen=True, kw_only=True):
    lines: list[LogLine]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A durable operation. `entry` says what it is; one with a value is done, a child or batch is made, `due_at` is waited for."""

    run_id: str
    epoch: int
    journal: int
    entry: Entry
    child: Trigger | None = None
    items: list[Trigger | tuple[str, str]] = []  # of a batch; (task, error) for one that cannot be triggered
    token_id: str | None = None
    input: str | None = None  # key of an input stream, whose next record is waited for
    wait_key: tuple[int, str, int] | None = None  # environment, hash and time to live of the key of a wait for time


class Forsake(msgspec.Struct, frozen=True, kw_only=True):
    """The code stopped waiting for an operation. `cancel`: the runs it made are of no use any more. `again`: save those with a key."""

    run_id: str
    epoch: int
    journal: int
    key: str
    cancel: bool = False
    again: bool = False


class Suspend(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The run waits for durable operations only, having been given `seen` completions."""

    run_id: str
    epoch: int
    journal: int
    seen: int
    executor: str
    unanswered: list[str] = []
    active_ms: int = 0
    cpu_ms: int = 0


class GoCold(msgspec.Struct, frozen=True, kw_only=True):
    """The executor keeps the coroutine of a waiting run no longer."""

    run_id: str
    epoch: int


class Wake(msgspec.Struct, frozen=True, kw_only=True):
    """The code of a waiting run moves by itself."""

    run_id: str
    epoch: int


class WaitOver(msgspec.Struct, frozen=True, kw_only=True):
    """The time of a wait has come."""

    run_id: str
    entry_id: str
    due_at: int
