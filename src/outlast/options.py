"""The options of a trigger, and how they travel."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

from outlast import current, values
from outlast.errors import InvalidValue, NotBuiltYet
from outlast.idempotency import hashed

Machine = Literal["micro", "small-1x", "small-2x", "medium-1x", "medium-2x", "large-1x", "large-2x"]

LATER = {
    "version": "version= comes with deploys",
}


class Debounce:
    """Triggers with one key become one run, `delay` after the last of them; `mode="trailing"`: with the data of the last.

    `max_delay` bounds how far the first of them can be pushed; without it that is a day.
    """

    def __init__(self, key: str, delay: str, mode: Literal["leading", "trailing"] = "leading", max_delay: str | None = None) -> None:
        self.key = key
        self.delay = delay
        self.mode = mode
        self.max_delay = max_delay


class TriggerOptions(TypedDict, total=False):
    """Durations are texts such as "1h30m"; `delay` may be an aware datetime, `ttl` whole seconds, `max_duration` seconds."""

    delay: str | datetime
    ttl: str | int
    priority: float
    tags: str | Sequence[str]
    metadata: Mapping[str, Any]
    idempotency_key: str | Sequence[str]
    idempotency_key_ttl: str
    queue: str
    concurrency_key: str | int
    max_attempts: int
    max_duration: float | None
    machine: Machine
    debounce: Debounce
    version: str
    test: bool
    detached: bool


class WaitOptions(TriggerOptions, total=False):
    """`key`: finds the operation in a replay, instead of its place. `timeout`: of the wait, "1h30m" or seconds; the run goes on."""

    key: str
    timeout: str | float


_WIRE = {
    "ttl": "ttl",
    "priority": "priority",
    "idempotency_key_ttl": "idempotencyKeyTTL",
    "max_attempts": "maxAttempts",
    "machine": "machine",
    "test": "test",
    "detached": "detached",
}


def body(payload: tuple[str | None, str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a trigger, or one item of a batch.

    Raises:
        NotBuiltYet: an option that comes later, by name.
        InvalidValue: an option that cannot be.
    """
    data, data_type = payload
    wire: dict[str, Any] = {"payloadType": data_type}
    for name, value in options.items():
        _add(wire, name, value)
    attempt = current.attempt.get()
    if attempt is not None:
        wire["parentRunId"] = attempt.ctx.run.id
    if (trace := _trace()) is not None:
        wire["traceparent"] = trace
    return {"options": wire} if data is None else {"payload": data, "options": wire}


def _trace() -> str | None:
    """Where the caller is in a trace of OpenTelemetry, if it uses that: the run then belongs to it."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    context = opentelemetry.get_current_span().get_span_context() if opentelemetry is not None else None
    return (
        f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}" if context is not None and context.is_valid else None
    )


def _add(wire: dict[str, Any], name: str, value: Any) -> None:
    if name in LATER:
        raise NotBuiltYet(f"{LATER[name]}, which this version of Outlast does not have yet: leave the option out")
    match name:
        case "delay":
            wire["delay"] = _when(value)
        case "debounce":
            wire["debounce"] = _debounce(value)
        case "tags":
            wire["tags"] = [value] if isinstance(value, str) else list(value)
        case "metadata":
            data, data_type = values.encode(dict(value))
            wire["metadata"], wire["metadataType"] = data, data_type
        case "idempotency_key":
            key = hashed(value)
            wire["idempotencyKey"] = str(key)
            wire["idempotencyKeyOptions"] = {"key": key.key, "scope": key.scope}
        case "queue":
            wire["queue"] = {"name": value if isinstance(value, str) else value.name}
        case "concurrency_key":
            wire["concurrencyKey"] = str(value)
        case "max_duration":
            wire["maxDuration"] = value
        case _ if name in _WIRE:
            wire[_WIRE[name]] = value
        case "on_cancel_when_suspended":
            raise InvalidValue('on_cancel_when_suspended is an option of the task: @task(on_cancel_when_suspended="replay")')
        case _:
            raise InvalidValue(f"there is no trigger option {name!r}")


def _debounce(value: Debounce) -> dict[str, str]:
    wire = {"key": value.key, "delay": value.delay, "mode": value.mode}
    return wire if value.max_delay is None else {**wire, "maxDelay": value.max_delay}


def _when(value: str | datetime) -> str:
    if isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise InvalidValue(f"delay={value.isoformat()} has no time zone: use datetime.now(UTC) + …, or a duration such as '1h'")
    return value.isoformat()
