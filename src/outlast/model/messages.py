"""What server and worker say to each other. A frame is a msgpack array of messages `[kind, …]`; all may be sent twice.

Worker writes are known by (run, epoch, attempt), pushes by (run, epoch). See `docs/internals/channel.md`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from outlast.model.failure import Failure
from outlast.model.journal import Entry, OpKind
from outlast.model.manifest import Manifest

MAX_FRAME_MESSAGES = 1_000
MAX_FRAME_BYTES = 64 * 1024 * 1024  # an operation of a run may make a batch, and that is as large as a request may be


class Message(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", gc=False):
    pass


# ---- supervisor → server


class Hello(Message, tag="hello", frozen=True, array_like=True):
    protocol: int
    worker: str  # stable name of this worker, for people
    boot_id: str
    manifest: Manifest
    promote: bool = True


class HeldRun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    run_id: str
    epoch: int
    attempt: int
    executor: str


class Attach(Message, tag="attach", frozen=True, array_like=True):
    """A supervisor is back; its executors join again by themselves, each with what it holds."""

    session: str


class Beat(Message, tag="beat", frozen=True, array_like=True):
    n: int
    free_memory: int = 0
    loop_lag_ms: dict[str, float] = {}  # by executor
    active_ms: dict[str, int] = {}  # by run


class Lost(Message, tag="lost", frozen=True, array_like=True):
    """An executor died. What it held is in the database, which alone knows all of it."""

    executor: str
    exit_status: int | None  # None: it was hung and the supervisor killed it


class Drain(Message, tag="drain", frozen=True, array_like=True):
    pass


class Bye(Message, tag="bye", frozen=True, array_like=True):
    pass


# ---- executor → server


class Join(Message, tag="join", frozen=True, array_like=True):
    """`held`: runs that execute here, and those whose `done` has no answer yet (it is sent again after this)."""

    session: str
    executor: str
    token: str
    held: list[HeldRun]


class Credit(Message, tag="credit", frozen=True, array_like=True):
    """How many runs of each kind this executor holds at most (not how many more)."""

    async_slots: int
    thread_slots: int
    process_slots: int = 0


class Done(Message, tag="done", frozen=True, array_like=True):
    """The end of an attempt. `retry` asks for another one after `retry_delay_ms`, decided by the worker.

    `lost`: the process that the run had for itself died; another attempt, by the same journal, is to follow after that time.
    """

    n: int
    run_id: str
    epoch: int
    attempt: int
    outcome: Literal["ok", "failed", "retry", "cancelled", "timed_out", "crashed", "lost", "parked"]
    output: str | None = None
    output_type: str = "application/json"
    error: Failure | None = None
    retry_delay_ms: int = 0
    usage_ms: int = 0
    cpu_ms: int = 0
    peak_memory: int = 0  # bytes; 0: not known


class Release(Message, tag="release", frozen=True, array_like=True):
    """Give a run back that did not begin, or must go on elsewhere: not counted as an attempt."""

    n: int
    run_id: str
    epoch: int
    reason: Literal["drain", "missing_code", "not_started", "not_held"]


class Op(Message, tag="op", frozen=True, array_like=True):
    """A durable operation of a run: recorded, with what it makes, in one transaction. `args` depend on the kind."""

    n: int
    run_id: str
    epoch: int
    journal: int
    key: str
    op: OpKind
    label: str
    fingerprint: str
    location: str
    args: dict[str, Any]
    place: int = -1


class Abandoned(Message, tag="abandoned", frozen=True, array_like=True):
    """Nobody waits for this operation any more: another execution must not be given its result either.

    `cancel`: the runs it made are cancelled. `again`: but not one with an idempotency key, by which the next attempt finds it.
    """

    n: int
    run_id: str
    epoch: int
    journal: int
    key: str
    cancel: bool = False
    again: bool = False


class Blocked(Message, tag="blocked", frozen=True, array_like=True):
    """The code of a run waits for durable operations only. `seen`: how many completions it has been given.

    `unanswered`: keys of operations sent before this whose answer has not come; one that was refused must not be waited for.
    """

    n: int
    run_id: str
    epoch: int
    journal: int
    seen: int
    unanswered: list[str] = []
    active_ms: int = 0  # of the attempt, until now
    cpu_ms: int = 0  # the same


class Cold(Message, tag="cold", frozen=True, array_like=True):
    """The code of a run that waits is not kept any more: whoever claims the run replays it."""

    n: int
    run_id: str
    epoch: int


class SideItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One write beside the journal, as JSON. `index` counts the writes of this scope to this target from 0."""

    scope: str
    index: int
    value: str


class Side(Message, tag="side", frozen=True, array_like=True):
    """Writes of a run to its metadata or to a stream, in order. The journal only counts them: what is there already is dropped.

    `target` is metadata/WHOSE or stream/WHOSE/KEY, where WHOSE is self, parent, root or a run's id.
    """

    n: int
    run_id: str
    epoch: int
    journal: int
    target: str
    items: list[SideItem]


class Awake(Message, tag="awake", frozen=True, array_like=True):
    """The code of a run that is taken to be waiting moves by itself, by a timer of its own: it needs its slot again."""

    n: int
    run_id: str
    epoch: int


class LogLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    run_id: str
    attempt: int
    at: int
    level: Literal["debug", "info", "warn", "error"]
    source: Literal["logger", "logging", "stdout", "stderr", "system", "span"]
    message: str
    data: dict[str, Any] | None = None


class Log(Message, tag="log", frozen=True, array_like=True):
    lines: list[LogLine]
    dropped: int = 0


class Refused(Message, tag="refused", frozen=True, array_like=True):
    """The answer to a write that was not accepted. `over`: the run is no longer this worker's."""

    n: int
    code: str
    message: str
    over: bool


class Ok(Message, tag="ok", frozen=True, array_like=True):
    """`attempt`: the run is tried again in place, as this attempt; None: it is no longer here."""

    n: int
    attempt: int | None = None


# ---- server → supervisor

SECRET_NAMES = "OUTLAST_SECRET_NAMES"  # where processes of a worker find the names of variables that no log may show


class Variables(Message, tag="variables", frozen=True, array_like=True):
    """What runs find in their environment; told again when it changes. `secrets` are the names whose values no log may show."""

    values: dict[str, str] = {}
    secrets: list[str] = []


class Welcome(Message, tag="welcome", frozen=True, array_like=True):
    session: str
    version: str
    lease_ms: int
    token: str  # executors of this session join with it
    env: str  # slug
    server_time: int
    variables: Variables


class Attached(Message, tag="attached", frozen=True, array_like=True):
    lease_ms: int


class SessionLost(Message, tag="session_lost", frozen=True, array_like=True):
    """Start anew with `hello`: abandon everything that was held."""

    reason: str


class BeatOk(Message, tag="beat_ok", frozen=True, array_like=True):
    n: int
    lease_ms: int
    cancel: list[HeldRun] = []  # their CancelPush may have been lost
    suspects: bool = False  # runs wait for a process of their own, and this worker makes none


class Rejected(Message, tag="rejected", frozen=True, array_like=True):
    """The worker cannot work with this server; it says why and ends."""

    code: str
    message: str


# ---- server → executor


class Joined(Message, tag="joined", frozen=True, array_like=True):
    """`abandon`: runs it holds no more in the database's eyes."""

    executor: str
    abandon: list[HeldRun]
    schema: str | None = None  # of the tables on PostgreSQL: for steps in a transaction of the user's own


class RunPush(Message, tag="run", frozen=True, array_like=True):
    """A claimed and started run: call the user's code."""

    run_id: str
    epoch: int
    attempt: int
    task: str
    version: str
    payload: str | None
    payload_type: str
    metadata: str | None
    context: dict[str, Any]  # what `ctx` is made of, beside the above (wire names of Trigger.dev)
    max_attempts: int | None
    max_duration: float | None
    max_duration_off: bool = False
    traceparent: str | None = None
    journal: int = 1
    entries: list[Entry] = []  # of an earlier execution: given to the code instead of being done again
    used_ms: int = 0  # active time of the attempt in earlier executions
    used_cpu_ms: int = 0  # its CPU time there
    earlier_ms: int = 0  # active time of earlier attempts
    earlier_cpu_ms: int = 0
    cancelled: bool = False  # replayed up to its wait, and told of its cancel there


class Recorded(Message, tag="recorded", frozen=True, array_like=True):
    """The answer to an `op`; an entry with a `seq` is complete already."""

    n: int
    run_id: str
    epoch: int
    entry: Entry


class Completion(Message, tag="completed", frozen=True, array_like=True):
    """What an executing run waits for has come."""

    run_id: str
    epoch: int
    entry: Entry


class Resume(Message, tag="resume", frozen=True, array_like=True):
    """A blocked run was claimed again by the executor that has its coroutine: it goes on, under a new epoch."""

    run_id: str
    epoch: int
    entries: list[Entry]


class CancelPush(Message, tag="cancel", frozen=True, array_like=True):
    run_id: str
    epoch: int
    grace_ms: int


class Abandon(Message, tag="abandon", frozen=True, array_like=True):
    runs: list[HeldRun]


class DrainPush(Message, tag="drain_executor", frozen=True, array_like=True):
    """To a supervisor: somebody asked it to finish and leave. To an executor: its supervisor is leaving."""


FromWorker = (
    Hello | Attach | Beat | Lost | Drain | Bye | Join | Credit | Done | Release | Log | Op | Abandoned | Blocked | Cold | Awake | Side
)
RunWrite = Done | Release | Op | Abandoned | Blocked | Cold | Awake | Side  # what an executor says of one run, and is answered
ToExecutor = Joined | RunPush | CancelPush | Abandon | DrainPush | Ok | Refused | Recorded | Completion | Resume
ToWorker = Welcome | Variables | Attached | SessionLost | BeatOk | Rejected | ToExecutor

encode_frame = msgspec.msgpack.Encoder().encode
decode_from_worker = msgspec.msgpack.Decoder(list[FromWorker]).decode
decode_to_worker = msgspec.msgpack.Decoder(list[ToWorker]).decode
