"""Hooks: what runs around every attempt, of one task (`@my_task.on_failure`) or of all (`@hooks.on_failure`)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, overload

from outlast import current
from outlast.errors import OutsideRunError
from outlast.model.journal import Entry

Kind = Literal[
    "on_start_attempt", "on_success", "on_failure", "on_complete", "on_cancel", "on_wait", "on_resume", "catch_error", "middleware"
]
Fn = TypeVar("Fn", bound=Callable[..., object])
T = TypeVar("T")

_COMMON: Final = frozenset({"payload", "ctx", "task", "signal"})
PARAMETERS: Final[dict[str, frozenset[str]]] = {
    "on_start_attempt": _COMMON,
    "on_success": _COMMON | {"output"},
    "on_failure": _COMMON | {"error"},
    "on_complete": _COMMON | {"result"},
    "on_cancel": _COMMON | {"run_promise"},
    "on_wait": _COMMON | {"wait"},
    "on_resume": _COMMON | {"wait"},
    "catch_error": _COMMON | {"error", "retry", "retry_at", "retry_delay_in_ms"},
    "middleware": _COMMON | {"next"},
}


class Next(Protocol):
    """The rest of the attempt. `await next()` raises what the run raises."""

    def __call__(self) -> Awaitable[None]: ...


class Hook:
    """A registered function, called with the arguments it names."""

    __slots__ = ("fn", "is_async", "name", "wants")

    def __init__(self, kind: Kind, fn: Callable[..., Any], name: str | None) -> None:
        self.fn = fn
        self.name = name or getattr(fn, "__name__", kind)
        self.is_async = inspect.iscoroutinefunction(fn)
        self.wants = _wanted(kind, fn)
        if kind == "middleware" and not self.is_async:
            raise TypeError(f"middleware {self.name!r} must be `async def`: it awaits next()")

    async def call(self, values: Mapping[str, Any]) -> Any:
        arguments = {name: values[name] for name in self.wants if name in values}
        if self.is_async:
            return await self.fn(**arguments)
        import asyncio

        return await asyncio.to_thread(self.fn, **arguments)


def _wanted(kind: Kind, fn: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the parameters, checked now, so that a typo fails at import and not in the night."""
    allowed = PARAMETERS[kind]
    wanted: list[str] = []
    for name, parameter in inspect.signature(fn).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{kind} hook {fn.__qualname__}: name the arguments it wants, of {', '.join(sorted(allowed))}")
        if name in allowed:
            wanted.append(name)
        elif parameter.default is parameter.empty:
            raise TypeError(f"{kind} hook {fn.__qualname__} asks for {name!r}, which does not exist: use {', '.join(sorted(allowed))}")
    return tuple(wanted)


class HookSet:
    """The hooks of one task, or of all."""

    def __init__(self) -> None:
        self._hooks: dict[str, list[Hook]] = {}

    def add(self, kind: Kind, fn: Callable[..., Any], name: str | None = None) -> None:
        self._hooks.setdefault(kind, []).append(Hook(kind, fn, name))

    def get(self, kind: Kind) -> list[Hook]:
        return self._hooks.get(kind, _NONE)

    def clear(self) -> None:
        self._hooks.clear()

    def __bool__(self) -> bool:
        return bool(self._hooks)


_NONE: list[Hook] = []
global_hooks = HookSet()


class Register:
    """A decorator that registers, plain or with a name shown in traces."""

    def __init__(self, hooks: HookSet, kind: Kind) -> None:
        self._hooks = hooks
        self._kind: Kind = kind

    @overload
    def __call__(self, fn: Fn, /) -> Fn: ...
    @overload
    def __call__(self, name: str, /) -> Callable[[Fn], Fn]: ...
    def __call__(self, fn: Any, /) -> Any:
        if callable(fn):
            self._hooks.add(self._kind, fn)
            return fn

        def register(real: Fn) -> Fn:
            self._hooks.add(self._kind, real, fn)
            return real

        return register


on_start_attempt = Register(global_hooks, "on_start_attempt")
on_success = Register(global_hooks, "on_success")
on_failure = Register(global_hooks, "on_failure")
on_complete = Register(global_hooks, "on_complete")
on_cancel = Register(global_hooks, "on_cancel")
on_wait = Register(global_hooks, "on_wait")
on_resume = Register(global_hooks, "on_resume")
catch_error = Register(global_hooks, "catch_error")
middleware = Register(global_hooks, "middleware")


def wait_of(entry: Entry, args: dict[str, Any]) -> dict[str, Any]:
    """What on_wait and on_resume are told, in Trigger.dev's words."""
    match entry.kind:
        case "token":
            return {"type": "token", "token": entry.ref}
        case "trigger_and_wait":
            return {"type": "task", "run_id": entry.ref, "task": entry.label}
        case "batch_and_wait":
            return {"type": "batch", "batch_id": entry.ref, "run_count": len(args.get("items", ()))}
        case _:
            return {"type": "duration", "date": datetime.fromtimestamp((entry.due_at or 0) / 1_000, UTC)}


class Local(Generic[T]):
    """A value that middleware, hooks and the task share, for one attempt."""

    def __init__(self, name: str) -> None:
        self._name = name

    def set(self, value: T, /) -> None:
        current.required(f"local({self._name!r}).set").locals[self._name] = value

    def get(self) -> T:
        """The value of this attempt.

        Raises:
            LookupError: nothing was set in this attempt.
            OutsideRunError: outside a task.
        """
        found = current.attempt.get()
        if found is None:
            raise OutsideRunError(f"local({self._name!r}).get only works inside a task")
        if self._name not in found.locals:
            raise LookupError(f"local({self._name!r}) was not set in this attempt: set it in middleware, before next()")
        return found.locals[self._name]


def local(name: str, *, type: type[T]) -> Local[T]:
    """A place for one value per attempt.

    Example:
        >>> connection = local("connection", type=dict)
    """
    return Local(name)
