"""`@task`: the decorator, typed so that a task knows its payload and its output."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

from msgspec.structs import replace

from outlast.config import ttl_ms
from outlast.context import RunContext
from outlast.errors import ConfigurationError, NotBuiltYet
from outlast.model.limits import MACHINES, MIN_DURATION_SECONDS
from outlast.model.manifest import ScheduleDefinition
from outlast.model.retry import Retry
from outlast.options import LATER, Machine
from outlast.queues import Queue, checked
from outlast.tasks import Options, Task, checked_id, registry

T1 = TypeVar("T1")
T2 = TypeVar("T2")
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class TaskOptions(TypedDict, total=False):
    """What `@task(…)` takes. `max_duration` is seconds of active time per attempt (None: no limit, the default).

    `retry_journal="keep"`: an attempt begins with all that went well in the ones before it, not only with their steps.
    `cancel_children_on_retry`: what a failed attempt has triggered is cancelled when another begins, save runs with an idempotency key
    and detached ones; so with the items of batches.
    `on_cancel_when_suspended="replay"`: a run that is cancelled while it waits is run once more up to that wait, where its code hears of
    the cancel: `finally` blocks, `except CancelledError` and `on_cancel` hooks do their work also when no worker had it in memory.
    `isolation="process"`: each run has a process of its own, which may crash, hang or be killed alone; `machine` limits its memory.
    """

    id: str
    description: str
    retry: Retry
    queue: Queue | str
    machine: Machine
    max_duration: float | None
    ttl: str | int
    schema: Any
    json_schema: dict[str, Any]
    isolation: Literal["process"] | None
    retry_journal: Literal["keep"] | None
    cancel_children_on_retry: bool
    on_cancel_when_suspended: Literal["replay"] | None
    singleton: Literal["skip", "queue", "cancel_previous"]


# The decorator tells payload and ctx apart by name, so the protocols name them; async before sync, ctx alone before payload.
class _ACtx(Protocol[Out]):
    def __call__(self, ctx: RunContext) -> Coroutine[Any, Any, Out]: ...


class _ANone(Protocol[Out]):
    def __call__(self) -> Coroutine[Any, Any, Out]: ...


class _ADef(Protocol[In, Out]):
    def __call__(self, payload: In = ...) -> Coroutine[Any, Any, Out]: ...


class _ADefCtx(Protocol[In, Out]):
    def __call__(self, payload: In = ..., *, ctx: RunContext) -> Coroutine[Any, Any, Out]: ...


class _APay(Protocol[In, Out]):
    def __call__(self, payload: In) -> Coroutine[Any, Any, Out]: ...


class _APayCtx(Protocol[In, Out]):
    def __call__(self, payload: In, ctx: RunContext) -> Coroutine[Any, Any, Out]: ...


class _DCtx(Protocol[Out]):
    def __call__(self, ctx: RunContext) -> Out: ...


class _DNone(Protocol[Out]):
    def __call__(self) -> Out: ...


class _DDef(Protocol[In, Out]):
    def __call__(self, payload: In = ...) -> Out: ...


class _DPay(Protocol[In, Out]):
    def __call__(self, payload: In) -> Out: ...


class _DPayCtx(Protocol[In, Out]):
    def __call__(self, payload: In, ctx: RunContext) -> Out: ...


class TaskDecorator(Protocol):
    @overload
    def __call__(self, fn: _ADef[T1, T2] | _ADefCtx[T1, T2], /) -> Task[T1 | None, T2]: ...
    @overload
    def __call__(self, fn: _ANone[T2] | _ACtx[T2], /) -> Task[None, T2]: ...
    @overload
    def __call__(self, fn: _APay[T1, T2] | _APayCtx[T1, T2], /) -> Task[T1, T2]: ...
    @overload
    def __call__(self, fn: _DDef[T1, T2], /) -> Task[T1 | None, T2]: ...
    @overload
    def __call__(self, fn: _DNone[T2] | _DCtx[T2], /) -> Task[None, T2]: ...
    @overload
    def __call__(self, fn: _DPay[T1, T2] | _DPayCtx[T1, T2], /) -> Task[T1, T2]: ...


@overload
def task(fn: _ADef[T1, T2] | _ADefCtx[T1, T2], /) -> Task[T1 | None, T2]: ...
@overload
def task(fn: _ANone[T2] | _ACtx[T2], /) -> Task[None, T2]: ...
@overload
def task(fn: _APay[T1, T2] | _APayCtx[T1, T2], /) -> Task[T1, T2]: ...
@overload
def task(fn: _DDef[T1, T2], /) -> Task[T1 | None, T2]: ...
@overload
def task(fn: _DNone[T2] | _DCtx[T2], /) -> Task[None, T2]: ...
@overload
def task(fn: _DPay[T1, T2] | _DPayCtx[T1, T2], /) -> Task[T1, T2]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> TaskDecorator: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a task. Without an id, the function's name is the id.

    Raises:
        ConfigurationError: an id, queue or number that cannot be.
        DuplicateTaskId: another task has the id; both places are named.
        NotBuiltYet: an option that comes with a later version.

    Example:
        >>> @task(id="reports.send.daily", retry=Retry(max_attempts=5), max_duration=300)
        ... async def send(payload: str) -> None: ...
    """

    def make(real: Callable[..., Any]) -> Task[Any, Any]:
        return _made(real, options, _checked(options))

    return make(fn) if fn is not None else make


def _made(real: Callable[..., Any], options: dict[str, Any], checked_options: Options) -> Task[Any, Any]:
    made = Task[Any, Any](real, checked_id(options.get("id") or real.__name__), checked_options, options.get("schema"))
    registry.add(made)
    return made


class ScheduledTaskDecorator(Protocol):
    """What `@schedules.task(…)` is: the function takes the schedule's payload, or nothing."""

    @overload
    def __call__(self, fn: _ANone[T2] | _ACtx[T2], /) -> Task[None, T2]: ...
    @overload
    def __call__(self, fn: _APay[T1, T2] | _APayCtx[T1, T2], /) -> Task[T1, T2]: ...
    @overload
    def __call__(self, fn: _DNone[T2] | _DCtx[T2], /) -> Task[None, T2]: ...
    @overload
    def __call__(self, fn: _DPay[T1, T2] | _DPayCtx[T1, T2], /) -> Task[T1, T2]: ...


def scheduled(schedule: ScheduleDefinition | None, read: Callable[[Any], Any], **options: Any) -> Any:
    """A decorator of tasks whose payload is made by their schedules; `read` makes of it what the function is given."""

    def make(real: Callable[..., Any]) -> Task[Any, Any]:
        return _made(real, {"schema": read, **options}, replace(_checked(options), schedule=schedule, scheduled=True))

    return make


def _checked(options: dict[str, Any]) -> Options:
    for name, value in options.items():
        if name in LATER and value is not None:
            raise NotBuiltYet(f"{LATER[name]}, which this version of Outlast does not have yet: leave the option out")
        if name not in TaskOptions.__annotations__:
            raise TypeError(f"@task has no option {name!r}")
    duration = options.get("max_duration")
    if duration is not None and not duration >= MIN_DURATION_SECONDS:
        raise ConfigurationError(f"max_duration must be at least {MIN_DURATION_SECONDS} seconds, not {duration}")
    machine = options.get("machine")
    if machine is not None and machine not in MACHINES:
        raise ConfigurationError(f"machine {machine!r}: use one of {', '.join(MACHINES)}")
    queue = options.get("queue")
    return Options(
        description=options.get("description"),
        retry=options.get("retry"),
        queue=checked(Queue(queue)) if isinstance(queue, str) else queue,
        machine=machine,
        max_duration=duration,
        has_max_duration="max_duration" in options,
        ttl_ms=None if options.get("ttl") is None else ttl_ms(options["ttl"], "ttl"),
        json_schema=options.get("json_schema"),
        isolation="process" if _only("isolation", options.get("isolation"), "process") else None,
        cancels_children=bool(options.get("cancel_children_on_retry")),
        keeps_journal=_only("retry_journal", options.get("retry_journal"), "keep"),
        cancel_replays=_only("on_cancel_when_suspended", options.get("on_cancel_when_suspended"), "replay"),
        singleton=_singleton(options.get("singleton")),
    )


def _only(name: str, mode: Any, known: str) -> bool:
    """Whether an option that has one value has it."""
    if mode not in (None, known):
        raise ConfigurationError(f'{name}={mode!r}: use "{known}", or leave it out')
    return mode == known


def _singleton(mode: Any) -> Literal["skip", "queue", "cancel_previous"] | None:
    if mode not in (None, "skip", "queue", "cancel_previous"):
        raise ConfigurationError(f"singleton={mode!r}: use skip, queue or cancel_previous")
    return mode
