"""`@task`: a function that runs durably. And `tasks`: triggering by id, without importing the function."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Generic, Literal, TypeVar, Unpack, cast, overload

import msgspec
from msgspec.structs import replace

from outlast import children, durable, queues, values
from outlast import hooks as hook_module
from outlast.batch import BatchItem, Items, send, wait_for_all
from outlast.client import requests
from outlast.client.answers import BatchHandle, Run, RunHandle
from outlast.client.calls import Flow, Pause, bound, flow, run, run_sync
from outlast.current import attempt as current_attempt
from outlast.errors import ConfigurationError, DuplicateTaskId, NotBuiltYet, NotFound, TaskPayloadParsedError
from outlast.hooks import HookSet, Register
from outlast.model import payload as packets
from outlast.model.limits import TASK_ID
from outlast.model.manifest import ScheduleDefinition, TaskDefinition
from outlast.model.retry import Retry
from outlast.options import TriggerOptions, WaitOptions, body
from outlast.pending import Pending, PendingBatch, PendingResult
from outlast.queues import Queue
from outlast.results import BatchResult, Result, RunError, TimedOut
from outlast.schema import Schema

T1 = TypeVar("T1")
T2 = TypeVar("T2")
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)

WAIT_SECONDS = 20  # how long the server holds one long poll
POLL_SECONDS = 1.0  # where there is no long poll


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """A task's options, checked."""

    description: str | None = None
    retry: Retry | None = None
    queue: Queue | None = None
    machine: str | None = None
    max_duration: float | None = None
    has_max_duration: bool = False  # whether the task says so itself: None then means "no limit", against the config
    ttl_ms: int | None = None
    json_schema: dict[str, Any] | None = None
    schedule: ScheduleDefinition | None = None
    scheduled: bool = False  # its payload is made by schedules
    isolation: Literal["process"] | None = None  # a process for each run
    keeps_journal: bool = False  # over a failed attempt, not only its steps
    cancels_children: bool = False  # of an attempt that is tried again
    cancel_replays: bool = False  # a run cancelled while it waits is replayed to that wait, to clean up
    singleton: Literal["skip", "queue", "cancel_previous"] | None = None  # what becomes of a run while another is not over


class Registry:
    """The tasks this process knows. Registering an id twice names both places."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task[Any, Any]] = {}
        self.duplicates: list[str] = []

    def add(self, task: Task[Any, Any]) -> None:
        other = self.tasks.get(task.id)
        if other is not None and other.location != task.location:
            here, there = (f"{file}:{line}" for file, line in (task.location, other.location))
            message = f"two tasks have the id {task.id!r}: {there} and {here}; give one of them another id"
            self.duplicates.append(message)
            raise DuplicateTaskId(message)
        self.tasks[task.id] = task

    def clear(self) -> None:
        self.tasks.clear()
        self.duplicates.clear()


registry = Registry()


class SyncTask(Generic[In, Out]):
    """The blocking view of a task."""

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task

    @overload
    def trigger(self: SyncTask[None, Out], **options: Unpack[TriggerOptions]) -> RunHandle[Out]: ...
    @overload
    def trigger(self, payload: In, **options: Unpack[TriggerOptions]) -> RunHandle[Out]: ...
    def trigger(self, payload: Any = None, **options: Unpack[TriggerOptions]) -> RunHandle[Out]:
        """Make a run of this task and return its handle."""
        return self._task.trigger(payload, **options).block()

    @overload
    def trigger_and_wait(self: SyncTask[None, Out], **options: Unpack[WaitOptions]) -> Result[Out]: ...
    @overload
    def trigger_and_wait(self, payload: In, **options: Unpack[WaitOptions]) -> Result[Out]: ...
    def trigger_and_wait(self, payload: Any = None, **options: Unpack[WaitOptions]) -> Result[Out]:
        """Make a run and wait for its end."""
        return self._task.trigger_and_wait(payload, **options).block()

    def batch_trigger(self, items: Iterable[In | BatchItem[In]]) -> BatchHandle:
        """Make a run for each item, 1,000 in one request."""
        return self._task.batch_trigger(items).block()

    def batch_trigger_and_wait(self, items: Iterable[In | BatchItem[In]], *, timeout: str | float | None = None) -> BatchResult[Out]:
        """Make a run for each item and wait for all, inside a `def` task."""
        return self._task.batch_trigger_and_wait(items, timeout=timeout).block()


class Task(Generic[In, Out]):
    """A function that runs durably: trigger it from anywhere.

    Example:
        >>> @task(id="hello.greet.world")
        ... async def hello(payload: str) -> str:
        ...     return f"hello {payload}"
    """

    def __init__(self, fn: Callable[..., Any], id: str, options: Options, schema: Any = None) -> None:
        self.fn = fn
        self.id = id
        self.options = options
        self.kind: Literal["async", "thread"] = "async" if inspect.iscoroutinefunction(fn) else "thread"
        self.hooks = HookSet()
        self.wants_payload, self.wants_ctx, self.payload_optional = _parameters(fn)
        code = inspect.unwrap(fn).__code__
        self.location = (code.co_filename, code.co_firstlineno)
        self.schema = Schema(fn, schema)
        self.__name__ = getattr(fn, "__name__", id)
        self.__doc__ = fn.__doc__
        self.on_start_attempt = Register(self.hooks, "on_start_attempt")
        self.on_success = Register(self.hooks, "on_success")
        self.on_failure = Register(self.hooks, "on_failure")
        self.on_complete = Register(self.hooks, "on_complete")
        self.on_cancel = Register(self.hooks, "on_cancel")
        self.on_wait = Register(self.hooks, "on_wait")
        self.on_resume = Register(self.hooks, "on_resume")
        self.catch_error = Register(self.hooks, "catch_error")
        self.middleware = Register(self.hooks, "middleware")

    @overload
    def trigger(self: Task[None, Out], **options: Unpack[TriggerOptions]) -> Pending[RunHandle[Out]]: ...
    @overload
    def trigger(self, payload: In, **options: Unpack[TriggerOptions]) -> Pending[RunHandle[Out]]: ...
    def trigger(self, payload: Any = None, **options: Unpack[TriggerOptions]) -> Pending[RunHandle[Out]]:
        """Make a run of this task and return its handle, once it is durable. The payload is checked here first.

        Raises:
            ValidationError: the payload does not fit (pydantic's own error); no run is made.
            ApiError: the server refused.
        """
        return _sent(f"{self.id}.trigger(…)", self.id, body(self.encode_payload(payload), options))

    @overload
    def trigger_and_wait(self: Task[None, Out], **options: Unpack[WaitOptions]) -> PendingResult[Out]: ...
    @overload
    def trigger_and_wait(self, payload: In, **options: Unpack[WaitOptions]) -> PendingResult[Out]: ...
    def trigger_and_wait(self, payload: Any = None, **options: Unpack[WaitOptions]) -> PendingResult[Out]:
        """Make a run and wait for its end; a Result says how it went. Inside a task the wait holds no slot and survives a crash.

        With `timeout` ("1h30m", or seconds) the wait may end first: `error.name` is WaitTimedOut, and the run goes on.

        Raises:
            NotBuiltYet: in a hook, where nothing can be recorded.
        """
        name, target = f"{self.id}.trigger_and_wait(…)", bound.get()
        key, timeout = options.pop("key", None), durable.timeout_ms(options.pop("timeout", None), name)
        wire = body(self.encode_payload(payload), options)
        if (here := durable.here(name)) is not None:
            return children.trigger_and_wait(here, name, self.id, wire, key, timeout, self.decode_output)
        if current_attempt.get() is not None:
            raise NotBuiltYet("trigger_and_wait in a hook or middleware: use trigger there, or wait in the task's function")
        return PendingResult(
            name, lambda: run(self._and_wait(wire, timeout), target), lambda: run_sync(self._and_wait(wire, timeout), target)
        )

    def batch_trigger(self, items: Items[In]) -> Pending[BatchHandle]:
        """Make a run for each item, in order, 1,000 in one request; items may come from an async iterable.

        Raises:
            ValidationError: an item does not fit; nothing of its request was sent.
        """
        return send(f"{self.id}.batch_trigger(…)", cast("Any", items), self)

    def batch_trigger_and_wait(self, items: Items[In], *, timeout: str | float | None = None) -> PendingBatch[Out]:
        """Make a run for each item and wait for all, inside a task; the results come in the order of the items.

        Items may come from an async iterable. With `timeout` ("1h30m", or seconds) those that are not over then have the error
        WaitTimedOut; their runs go on.

        Raises:
            OutsideRunError: outside of a task: use batch_trigger there.
            ValidationError: an item does not fit; nothing was sent.
        """
        return wait_for_all(f"{self.id}.batch_trigger_and_wait(…)", cast("Any", items), self, timeout)

    @property
    def sync(self) -> SyncTask[In, Out]:
        """The same verbs, blocking."""
        return SyncTask(self)

    # ---- values

    def encode_payload(self, payload: Any) -> tuple[str | None, str]:
        """Check a payload on the caller's side and make its packet."""
        if payload is None and (self.payload_optional or not self.wants_payload):
            return None, packets.JSON
        return values.encode(self.schema.check(payload))

    def parse_payload(self, data: str | None, data_type: str) -> Any:
        """What the function is called with.

        Raises:
            TaskPayloadParsedError: the packet cannot be read, or does not fit the schema.
        """
        try:
            if self.schema.is_open:
                return packets.decode(data, data_type)
            return self.schema.read(data, data_type)
        except Exception as error:  # whatever the schema's library raises
            raise TaskPayloadParsedError(f"the payload does not fit task {self.id!r}: {error}") from error

    def encode_output(self, value: Any) -> tuple[str | None, str]:
        return values.encode(value)

    def decode_output(self, data: str | None, data_type: str) -> Out:
        return self.schema.read_output(data, data_type)

    def definition(self) -> TaskDefinition:
        """What the server is told of this task."""
        o = self.options
        queue = queues.definition(o.queue) if o.queue else None
        return TaskDefinition(
            id=self.id,
            kind=self.options.isolation or self.kind,
            file=self.location[0],
            line=self.location[1],
            description=o.description,
            queue=queue,
            retry=o.retry,
            machine=o.machine,
            max_duration=o.max_duration,
            ttl_ms=o.ttl_ms,
            schedule=o.schedule,
            scheduled=o.scheduled,
            singleton=o.singleton,
            cancel_replays=o.cancel_replays,
            payload_schema=o.json_schema or self.schema.json_schema(),
        )

    def _and_wait(self, wire: dict[str, Any], timeout: int | None) -> Flow[Result[Out]]:
        handle: RunHandle[Any] = yield requests.trigger(self.id, wire)
        until = math.inf if timeout is None else time.monotonic() + timeout / 1_000
        run_id = handle.id
        while True:
            outcome = yield from wait_for(run_id, until - time.monotonic())
            if (following := _continued_as(outcome)) is None:
                break
            run_id = following  # whoever waits for a run waits for the one it goes on as
        if not outcome.done:
            return TimedOut(False, run_id, self.id, RunError("WaitTimedOut", f"run {run_id} was not over in {timeout} ms"))
        if not outcome.ok:
            return Result(False, run_id, self.id, requests.run_error(outcome))
        return Result(True, run_id, self.id, self.decode_output(outcome.output, outcome.output_type))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself: no run, no retries; for tests and for code reuse."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.id}>"


def _continued_as(outcome: requests.Outcome) -> str | None:
    if not outcome.ok or outcome.output is None or not outcome.output.startswith('{"continued_as":"run_'):
        return None
    return msgspec.json.decode(outcome.output)["continued_as"]


def retrieved(run_id: str) -> Flow[Run]:
    """A run; large values come from addresses of their own."""
    run: Run = yield requests.retrieve_run(run_id)
    if run.payload_presigned_url is not None:
        run = replace(run, payload=(yield requests.download(run.payload_presigned_url)))
    if run.output_presigned_url is not None:
        run = replace(run, output=(yield requests.download(run.output_presigned_url)))
    return run


def wait_for(run_id: str, seconds: float | None = None) -> Flow[requests.Outcome]:
    """How it ended; when the time is over before, the outcome says that it is not done."""
    until = math.inf if seconds is None else time.monotonic() + seconds
    while True:
        left = max(0.0, until - time.monotonic())
        outcome: requests.Outcome
        try:
            outcome = yield requests.run_result(run_id, math.ceil(min(WAIT_SECONDS, left)))
        except NotFound:  # there is no such run, or the server has only Trigger.dev's routes, as its cloud
            outcome = requests.outcome_of((yield from retrieved(run_id)))
            if not outcome.done and time.monotonic() < until:
                yield Pause(POLL_SECONDS)
        if outcome.done or time.monotonic() >= until:
            return outcome


def _sent(call: str, task_id: str, wire: dict[str, Any]) -> Pending[RunHandle[Any]]:
    """Inside a task it is recorded, and made once however often the code is replayed."""
    here = None if bound.get() is not None else durable.here(call)
    return flow(call, lambda: _trigger(task_id, wire)) if here is None else children.trigger(here, call, task_id, wire)


def _trigger(task_id: str, wire: dict[str, Any]) -> Flow[RunHandle[Any]]:
    return (yield requests.trigger(task_id, wire))


def _parameters(fn: Callable[..., Any]) -> tuple[bool, bool, bool]:
    """(wants payload, wants ctx, payload has a default)"""
    if not callable(fn) or not hasattr(inspect.unwrap(fn), "__code__"):
        raise TypeError(f"@task decorates a function, not {fn!r}")
    parameters = inspect.signature(fn).parameters
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if name not in ("payload", "ctx") and required:
            raise TypeError(f"task function {fn.__qualname__} has the parameter {name!r}: a task takes `payload` and `ctx`, both optional")
    payload = parameters.get("payload")
    return payload is not None, "ctx" in parameters, payload is not None and payload.default is not payload.empty


def checked_id(id: str) -> str:
    if not TASK_ID.fullmatch(id):
        raise ConfigurationError(f"task id {id!r}: use 1 to 128 of A-Z a-z 0-9 _ . -, as in users.process.complete")
    return id


def trigger(id: str, payload: Any = None, **options: Unpack[TriggerOptions]) -> Pending[RunHandle[Any]]:
    """Make a run of a task by its id, without importing it; the payload is checked by the worker only."""
    return _sent(f"tasks.trigger({id!r}, …)", checked_id(id), body(values.encode(payload), options))


def batch_trigger(id: str, items: Iterable[Any] | AsyncIterable[Any]) -> Pending[BatchHandle]:
    """Make a run of one task for each item, by its id."""
    return send(f"tasks.batch_trigger({id!r}, …)", items, checked_id(id))


def clear() -> None:
    """Forget all tasks and hooks of this process; a reload begins with this."""
    registry.clear()
    hook_module.global_hooks.clear()
