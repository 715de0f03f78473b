"""Durable operations as the SDK sees them. The worker brings the journal; outside a task there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from outlast import current
from outlast.errors import InvalidValue, NestedDurableOpError, OutsideRunError
from outlast.model.duration import FORMS, parse_duration
from outlast.model.failure import Failure
from outlast.model.journal import Entry, OpKind
from outlast.model.limits import MAX_FUTURE_MS

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Slot(NamedTuple):
    """The place of an operation in a run, the same in each of its executions."""

    key: str
    kind: OpKind
    label: str
    fingerprint: str
    location: str
    place: int  # the how-manieth operation of its scope; -1: found by its explicit key


class Fence(NamedTuple):
    """What a write of this execution must name. `schema`: of the server's tables, None when it does not run on PostgreSQL."""

    run_id: str
    epoch: int
    journal: int
    version: str
    schema: str | None


class Durable(Protocol):
    run_id: str

    def is_here(self) -> bool: ...
    def slot(self, kind: OpKind, label: str, key: str | None, fingerprint: str, call: str) -> Slot: ...
    def entry(self, slot: Slot) -> Entry | None: ...
    async def perform(self, slot: Slot, args: dict[str, Any]) -> Entry: ...
    def waiting_for(self, tasks: set[asyncio.Task[Any]]) -> AbstractContextManager[None]: ...
    async def noted(self, slot: Slot) -> Entry | None: ...
    async def settled(self) -> None: ...
    def fence(self) -> Fence: ...
    def skip(self, name: str) -> None: ...
    def drop(self, task: asyncio.Task[Any]) -> None: ...
    def take(self, slot: Slot, args: Callable[[], dict[str, Any]]) -> Entry: ...
    def block(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T: ...


in_step: ContextVar[str | None] = ContextVar("outlast_step", default=None)  # its key


def here(call: str) -> Durable | None:
    """The journal of the run whose function runs here; None outside of one, also in hooks.

    Raises:
        NestedDurableOpError: inside a step.
    """
    attempt = current.attempt.get()
    if attempt is None or attempt.durable is None or not attempt.durable.is_here():
        return None
    if in_step.get() is not None:
        raise NestedDurableOpError(
            f"{call} inside a step: a step is one unit, so make the call in the task and pass its result to the step"
        )
    return attempt.durable


def required(call: str) -> Durable:
    """The same, for what makes no sense elsewhere.

    Raises:
        OutsideRunError: there is none; names the call.
    """
    found = here(call)
    if found is None:
        raise OutsideRunError(f"{call} only works inside a task: call it in the function that @task decorates, or in what that calls")
    return found


def fingerprint(value: Any) -> str:
    """Tells other inputs apart. What is no JSON counts by its type."""
    text = msgspec.json.encode(value, order="sorted", enc_hook=lambda other: f"<{type(other).__module__}.{type(other).__qualname__}>")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def timeout_ms(timeout: str | float | None, call: str) -> int | None:
    """Of a wait: a duration such as "1h30m", or seconds.

    Raises:
        InvalidValue: neither, negative, or more than ten years.
    """
    if timeout is None:
        return None
    try:
        ms = parse_duration(timeout) if isinstance(timeout, str) else round(timeout * 1_000)
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidValue(f"{call}: timeout={timeout!r} is neither seconds nor {FORMS}") from error
    if not 0 <= ms <= MAX_FUTURE_MS:
        raise InvalidValue(f"{call}: timeout={timeout!r} must be 0 to ten years")
    return ms


_failure = msgspec.json.Decoder(Failure).decode


def failure(entry: Entry) -> Failure:
    return _failure(entry.value) if entry.value else Failure(name="Error", message="failed")
