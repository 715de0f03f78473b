"""A trigger's body, checked field by field, as the engine's request."""

from __future__ import annotations

import hashlib
import math
import re
from datetime import datetime
from typing import Any, Literal

import msgspec

from outlast.model import limits
from outlast.model import payload as packets
from outlast.model.duration import FORMS, format_duration, parse_duration
from outlast.model.requests import DebounceBy, Trigger
from outlast.model.run import RunOptions
from outlast.server.body import guard, no_duplicates
from outlast.server.problem import Problem, invalid

UNSET = msgspec.UNSET
UnsetType = msgspec.UnsetType
PACKET_TYPES = (packets.JSON, packets.SUPERJSON, "text/plain")


class QueueRef(msgspec.Struct):
    name: str


class KeyOptions(msgspec.Struct):
    key: str | None = None
    scope: str | None = None


# what is none is left out: the run then begins a trace of its own
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class TriggerOptions(msgspec.Struct, rename="camel"):
    """Trigger.dev's options by their wire names; what it does not know is ignored."""

    payload_type: str | None = None
    queue: QueueRef | None = None
    concurrency_key: str | int | float | None = None
    idempotency_key: str | None = None
    idempotency_key_ttl: str | None = msgspec.field(default=None, name="idempotencyKeyTTL")
    idempotency_key_options: KeyOptions | None = None
    delay: str | None = None
    ttl: str | int | None = None
    tags: str | list[str] | None = None
    max_attempts: int | None = None
    max_duration: float | UnsetType | None = UNSET
    metadata: msgspec.Raw = msgspec.Raw()  # empty: not given
    metadata_type: str | None = None
    machine: str | None = None
    priority: float | None = None
    region: str | None = None
    lock_to_version: str | None = None
    test: bool | None = None
    debounce: msgspec.Raw = msgspec.Raw()
    parent_run_id: str | None = None
    resume_parent_on_completion: bool | None = None
    detached: bool | None = None  # ours
    traceparent: str | None = None  # ours: the trace it belongs to, as W3C writes it


class TriggerBody(msgspec.Struct):
    payload: msgspec.Raw | UnsetType = UNSET
    options: msgspec.Raw | UnsetType = UNSET


body_decoder = msgspec.json.Decoder(TriggerBody)
_options = msgspec.json.Decoder(TriggerOptions)
_names = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KNOWN = {field.encode_name for field in msgspec.structs.fields(TriggerOptions)} | {
    "payloadSize", "externalDeploymentId", "parentBatch", "bulkActionId", "concurrency", "gates",  # of Trigger.dev's, without effect here
    "dependentAttempt", "parentAttempt", "dependentBatch",
}  # fmt: skip


def read_options(raw: msgspec.Raw | UnsetType) -> TriggerOptions:
    """Options as a struct.

    Raises:
        Problem: 400, naming the field.
    """
    if raw is UNSET or bytes(raw) == b"null":
        return TriggerOptions()
    try:
        found = _options.decode(raw)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise invalid(message, "options" + where.rstrip("`")) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"options are not JSON: {error}", code="invalid_json") from error
    no_duplicates(bytes(raw), "options")
    return found


def unknown(raw: msgspec.Raw | UnsetType) -> list[str]:
    """Names of options that neither Outlast nor Trigger.dev knows, of options that were read already."""
    if raw is UNSET or bytes(raw) == b"null":
        return []
    return [name for name in _names.decode(raw) if name not in _KNOWN]


def trigger(env_id: int, task: str, body: TriggerBody, o: TriggerOptions, *, now: int, limit: int = limits.MAX_PAYLOAD_BYTES) -> Trigger:
    """The engine's request.

    Raises:
        Problem: 400 for a field out of its range, 413 for too much, 422 for what is refused.
    """
    if o.resume_parent_on_completion:
        raise Problem(
            422,
            "waiting for a child inside a task is not supported by this version of Outlast yet",
            param="options.resumeParentOnCompletion",
        )
    data, data_type = _payload(body.payload, o.payload_type, limit)
    metadata, metadata_type = _metadata(o)
    key = idempotency_key(o.idempotency_key)
    key_options = o.idempotency_key_options or KeyOptions()
    options = RunOptions(
        idempotency_key=key_options.key or o.idempotency_key,
        idempotency_key_scope=key_options.scope,
        priority=o.priority or 0,
        tags=_tags(o.tags),
        machine=_machine(o.machine),
        region=o.region,
        metadata_type=metadata_type,
        max_duration_off=o.max_duration is None,
        trigger_function="trigger",
        traceparent=o.traceparent if o.traceparent and _TRACEPARENT.fullmatch(o.traceparent) else None,
    )
    return Trigger(
        env_id=env_id,
        task=task,
        payload=data,
        payload_type=data_type,
        metadata=metadata,
        options=options,
        idempotency_hash=key,
        idempotency_ttl_ms=duration(o.idempotency_key_ttl, "idempotencyKeyTTL") if o.idempotency_key_ttl else 0,
        queue=_queue(o.queue, task),
        concurrency_key=_concurrency_key(o.concurrency_key),
        delay_until=when(o.delay, now) if o.delay else None,
        ttl_ms=_ttl(o.ttl),
        priority_ms=_priority(o.priority),
        max_attempts=_max_attempts(o.max_attempts),
        max_duration=_max_duration(o.max_duration),
        locked_version=o.lock_to_version,
        parent_id=o.parent_run_id,
        is_test=bool(o.test),
        detached=bool(o.detached),
        debounce=_debounce(o),
    )


def _payload(raw: msgspec.Raw | UnsetType, data_type: str | None, limit: int) -> tuple[str | None, str]:
    """The packet. A text with a type is the packet's text; anything else is the value itself, kept to the letter."""
    if raw is UNSET:
        return None, data_type or packets.JSON
    text = bytes(raw)
    if data_type is None or not text.startswith(b'"'):
        _check_size(text, limit)
        return (None if text == b"null" else text.decode()), packets.JSON
    packet: str = msgspec.json.decode(text)
    inner = packet.encode("utf-8", "surrogatepass")
    _check_size(inner, limit)
    check_packet(inner, data_type)
    if data_type == "text/plain" and "\x00" in packet:
        return text.decode(), packets.JSON  # the same text to every client; PostgreSQL keeps no NUL but an escaped one
    return packet, data_type


def _check_size(text: bytes, limit: int) -> None:
    if len(text) > limit:
        raise Problem(413, f"the payload is larger than {limit} bytes: put it in storage and send its address", code="payload_too_large")


def check_packet(text: bytes, data_type: str) -> None:
    """Refuse what is not of its type.

    Raises:
        Problem: 400, or 422 for a type nobody knows.
    """
    if data_type not in PACKET_TYPES:
        raise Problem(422, f"payloadType {data_type[:100]!r} is unknown", code="unknown_codec", param="options.payloadType")
    if data_type != "text/plain":
        guard(text)
        _check_json(text, data_type)
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, "the payload is not UTF-8", code="invalid_unicode", param="payload") from error


def _check_json(text: bytes, data_type: str) -> None:
    try:
        found = msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"the payload is not JSON: {error}", code="invalid_json", param="payload") from error
    if data_type == packets.SUPERJSON and not bytes(found).lstrip().startswith(b"{"):
        raise invalid("a super+json payload is an object with json and meta", "payload")


def _metadata(o: TriggerOptions) -> tuple[str | None, str]:
    if bytes(o.metadata) in (b"", b"null"):
        return None, packets.JSON
    text = bytes(o.metadata).decode()
    if text.startswith('"'):
        text = msgspec.json.decode(text)
    if len(text.encode("utf-8", "surrogatepass")) > limits.MAX_METADATA_BYTES:
        raise Problem(413, f"metadata is larger than {limits.MAX_METADATA_BYTES} bytes", param="options.metadata")
    data_type = o.metadata_type or packets.JSON
    try:
        found = packets.to_json(text, data_type)
    except ValueError as error:
        raise invalid(f"metadata is not JSON: {error}", "options.metadata") from error
    if not isinstance(found, dict):
        raise invalid("metadata must be an object", "options.metadata")
    return text, data_type


def text_field(value: str, name: str, limit: int) -> str:
    """A short text: no NUL and no lone surrogates, which PostgreSQL cannot keep."""
    if not value or len(value) > limit:
        raise invalid(f"{name} must have 1 to {limit} characters, and has {len(value)}", f"options.{name}")
    if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise invalid(f"{name} holds a character that is no text", f"options.{name}")
    return value


def idempotency_key(value: str | None) -> str | None:
    if value is None:
        return None
    key = text_field(value, "idempotencyKey", limits.MAX_KEY_CHARS)
    return key if len(key) <= 64 else hashlib.sha256(key.encode()).hexdigest()


def _queue(ref: QueueRef | None, task: str) -> str | None:
    if ref is None:
        return None
    if ref.name.startswith(limits.TASK_QUEUE_PREFIX) and ref.name != limits.TASK_QUEUE_PREFIX + task:
        raise invalid(
            f"queue name {ref.name[:100]!r}: {limits.TASK_QUEUE_PREFIX} is reserved for the tasks' own queues", "options.queue.name"
        )
    if not limits.QUEUE_NAME.fullmatch(ref.name):
        raise invalid(f"queue name {ref.name[:100]!r}: use 1 to 128 of A-Z a-z 0-9 _ . / -", "options.queue.name")
    return ref.name


def _concurrency_key(value: str | int | float | None) -> str | None:
    return None if value is None else text_field(str(value), "concurrencyKey", limits.MAX_CONCURRENCY_KEY_CHARS)


def _tags(value: str | list[str] | None) -> list[str]:
    tags = list(dict.fromkeys([value] if isinstance(value, str) else value or []))
    if len(tags) > limits.MAX_TAGS:
        raise Problem(
            422,
            f"Runs can only have {limits.MAX_TAGS} tags, you're trying to set {len(tags)}.",
            code="validation_error",
            param="options.tags",
        )
    return [text_field(tag, "tags", limits.MAX_TAG_CHARS) for tag in tags]


def check_tags(value: Any) -> list[str]:
    if not isinstance(value, (str, list)) or (isinstance(value, list) and not all(isinstance(tag, str) for tag in value)):  # pyright: ignore[reportUnknownVariableType]
        raise invalid("tags must be a text or a list of texts", "tags")
    return _tags(value)  # pyright: ignore[reportUnknownArgumentType]


def duration(text: str, name: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise invalid(f"{name}: {error}", f"options.{name}") from error


def _ttl(value: str | int | None) -> int | None:
    if value is None:
        return None
    ms = duration(value, "ttl") if isinstance(value, str) else value * 1_000
    if ms < 0 or ms > limits.MAX_FUTURE_MS:
        raise invalid(f"ttl must be {FORMS}, or whole seconds from 0 (which switches it off) to ten years", "options.ttl")
    return ms


def when(text: str, now: int) -> int:
    """A delay: a duration from now, or a date with a zone. One in the past means now."""
    try:
        return now + parse_duration(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise invalid(f"delay {text[:100]!r} is neither {FORMS} nor an ISO date", "options.delay") from error
    if at.tzinfo is None:
        raise invalid(f"delay {text!r} has no time zone: end it with Z or an offset", "options.delay")
    ms = round(at.timestamp() * 1_000)
    if ms > now + limits.MAX_FUTURE_MS:
        raise invalid(f"delay {text!r} is more than ten years away", "options.delay")
    return ms


def _priority(value: float | None) -> int:
    if value is None:
        return 0
    if not math.isfinite(value) or not 0 <= value <= limits.MAX_PRIORITY:
        raise invalid(f"priority is a number of seconds from 0 to {limits.MAX_PRIORITY}", "options.priority")
    return round(value * 1_000)


def _max_attempts(value: int | None) -> int | None:
    if value is not None and not 0 <= value <= limits.MAX_ATTEMPTS:
        raise invalid(f"maxAttempts must be 0 to {limits.MAX_ATTEMPTS}, and is {value}", "options.maxAttempts")
    return value


def _max_duration(value: float | UnsetType | None) -> float | None:
    if value is None or value is UNSET:
        return None
    if not math.isfinite(value) or value < limits.MIN_DURATION_SECONDS:
        raise invalid(f"maxDuration must be at least {limits.MIN_DURATION_SECONDS} seconds", "options.maxDuration")
    return value


class DebounceOptions(msgspec.Struct, rename="camel"):
    key: str
    delay: str
    mode: Literal["leading", "trailing"] = "leading"
    max_delay: str | None = None


_debounce_options = msgspec.json.Decoder(DebounceOptions)


def _debounce(o: TriggerOptions) -> DebounceBy | None:
    if bytes(o.debounce) in (b"", b"null"):
        return None
    try:
        found = _debounce_options.decode(o.debounce)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise invalid(message, "options.debounce" + where.rstrip("`")) from error
    if o.delay:
        raise invalid("a trigger has either delay or debounce: debounce.delay says how long it waits", "options.debounce")
    key = text_field(found.key, "debounce.key", limits.MAX_DEBOUNCE_KEY_CHARS)
    delay = duration(found.delay, "debounce.delay")
    if delay < limits.MIN_DEBOUNCE_MS:
        raise invalid("debounce.delay must be at least 1s", "options.debounce.delay")
    most = duration(found.max_delay, "debounce.maxDelay") if found.max_delay else limits.MAX_DEBOUNCE_MS
    if delay >= most:
        raise invalid(f"debounce.delay must be shorter than maxDelay ({format_duration(most)})", "options.debounce.maxDelay")
    return DebounceBy(key=key, delay_ms=delay, mode=found.mode, max_delay_ms=most)


def _machine(value: str | None) -> str | None:
    if value is not None and value not in limits.MACHINES:
        raise invalid(f"machine {value[:100]!r}: use one of {', '.join(limits.MACHINES)}", "options.machine")
    return value
