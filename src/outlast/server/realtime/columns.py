"""A run as a row of the Electric protocol: every value a text or null, as PostgreSQL would write it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from outlast.model import payload as packets
from outlast.model.duration import format_duration
from outlast.model.run import Execution, Status
from outlast.server import wire
from outlast.server.packets import shown
from outlast.server.realtime.state import Pair

Value = str | None

# what these clients know, by what a run is for users
_STATUS = {
    Status.QUEUED: "PENDING",
    Status.WAITING: "WAITING_TO_RESUME",
    Status.COMPLETED: "COMPLETED_SUCCESSFULLY",
    Status.FAILED: "COMPLETED_WITH_ERRORS",
}
ALWAYS = frozenset({"id", "taskIdentifier", "friendlyId", "status", "createdAt"})  # never skipped


@dataclass(frozen=True, slots=True)
class Column:
    type: str
    value: Callable[[Pair], Value]
    dims: int = 0


def _time(ms: int | None) -> Value:
    """Without a zone: the client adds the Z."""
    return None if ms is None else datetime.fromtimestamp(ms / 1_000, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def _status(pair: Pair) -> Value:
    run = pair[0]
    if run.status is Status.EXECUTING and run.execution is Execution.QUEUED:
        return "RETRYING_AFTER_FAILURE"
    return _STATUS.get(run.status, run.status.value)


def _array(values: Collection[str]) -> str:
    quoted = ['"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]
    return "{" + ",".join(quoted) + "}"


def _error(pair: Pair) -> Value:
    run, data = pair
    if data.error is None or not run.is_final:
        return None
    return msgspec.json.encode(wire.error_object(data.error)).decode()


def _expired_at(pair: Pair) -> Value:
    run = pair[0]
    return _time(run.finished_at) if run.status is Status.EXPIRED else None


def _delayed_until(pair: Pair) -> Value:
    run = pair[0]
    return _time(run.due_at) if run.status is Status.DELAYED else None


def _payload(pair: Pair) -> tuple[Value, Value]:
    return shown(pair[0].id, "payload", pair[1].payload, pair[1].payload_type)


def _output(pair: Pair) -> tuple[Value, Value]:
    return shown(pair[0].id, "output", pair[1].output, pair[1].output_type or packets.JSON)


def _ttl(pair: Pair) -> Value:
    return format_duration(pair[0].ttl_ms) if pair[0].ttl_ms else None


COLUMNS: dict[str, Column] = {
    "id": Column("text", lambda p: p[0].id),
    "taskIdentifier": Column("text", lambda p: p[0].task),
    "createdAt": Column("timestamp", lambda p: _time(p[0].created_at)),
    "updatedAt": Column("timestamp", lambda p: _time(p[0].updated_at)),
    "startedAt": Column("timestamp", lambda p: _time(p[0].started_at)),
    "delayUntil": Column("timestamp", _delayed_until),
    "queuedAt": Column("timestamp", lambda p: _time(p[0].queued_at)),
    "expiredAt": Column("timestamp", _expired_at),
    "completedAt": Column("timestamp", lambda p: _time(p[0].finished_at)),
    "friendlyId": Column("text", lambda p: p[0].id),
    "number": Column("int4", lambda _: "0"),
    "isTest": Column("bool", lambda p: "t" if p[0].is_test else "f"),
    "status": Column("text", _status),
    "usageDurationMs": Column("int4", lambda p: str(p[0].usage_ms)),
    "costInCents": Column("float8", lambda _: "0"),
    "baseCostInCents": Column("float8", lambda _: "0"),
    "ttl": Column("text", _ttl),
    "payload": Column("text", lambda p: _payload(p)[0]),
    "payloadType": Column("text", lambda p: _payload(p)[1]),
    "metadata": Column("text", lambda p: p[1].metadata),
    "metadataType": Column("text", lambda p: p[1].options.metadata_type),
    "output": Column("text", lambda p: _output(p)[0]),
    "outputType": Column("text", lambda p: _output(p)[1]),
    "runTags": Column("text", lambda p: _array(p[1].options.tags), dims=1),
    "error": Column("jsonb", _error),
    "realtimeStreams": Column("text", lambda p: _array(p[1].options.streams), dims=1),
    "idempotencyKey": Column("text", lambda p: p[1].options.idempotency_key),
}


def wanted(skipped: Collection[str]) -> list[str]:
    return [name for name in COLUMNS if name in ALWAYS or name not in skipped]


def schema(names: Collection[str]) -> str:
    """The `electric-schema` header."""
    found: dict[str, Any] = {}
    for name in names:
        column = COLUMNS[name]
        found[name] = {"type": column.type, "dims": column.dims} if column.dims else {"type": column.type}
    return msgspec.json.encode(found).decode()


def row(pair: Pair, names: Collection[str]) -> dict[str, Value]:
    return {name: COLUMNS[name].value(pair) for name in names}
