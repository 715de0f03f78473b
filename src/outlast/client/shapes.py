"""Rows of the Electric protocol as runs: what a subscription is given, and what it asks for next. No IO."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from outlast.client.answers import Run, parse_run
from outlast.client.requests import Headers, Request
from outlast.model import payload as packets
from outlast.model.run import Status, status_flags

_STATUS = {
    "PENDING": Status.QUEUED,
    "WAITING_TO_RESUME": Status.WAITING,
    "PAUSED": Status.WAITING,
    "RETRYING_AFTER_FAILURE": Status.EXECUTING,
    "COMPLETED_SUCCESSFULLY": Status.COMPLETED,
    "COMPLETED_WITH_ERRORS": Status.FAILED,
    "INTERRUPTED": Status.FAILED,
}
_TIMES = {
    "createdAt": "createdAt", "updatedAt": "updatedAt", "startedAt": "startedAt", "completedAt": "finishedAt",
    "delayUntil": "delayedUntil", "expiredAt": "expiredAt",
}  # fmt: skip


class Shape:
    """One subscription: where it asks, and what it has."""

    def __init__(self, path: str, query: dict[str, str] | None = None) -> None:
        self._path = path
        self._given = query or {}
        self._have: dict[str, str] = {}

    def next(self) -> Request[list[Run]]:
        """Everything at first, then a poll that is held until something changes."""
        query = {"log": "full", "offset": "-1", **self._given, **self._have}
        return Request("GET", self._path, self._read, query=query, is_held=True)

    def begin_anew(self) -> None:
        self._have = {}

    def _read(self, content: bytes, headers: Headers) -> list[Run]:
        messages: list[dict[str, Any]] = msgspec.json.decode(content)
        self._have = {
            "offset": headers["electric-offset"],
            "handle": headers["electric-handle"],
            "cursor": headers.get("electric-cursor", ""),
            "live": "true",
        }
        return [run_of(message["value"]) for message in messages if "value" in message]


def run_of(row: dict[str, str | None]) -> Run:
    """A run from its row; columns that were left out are empty."""
    status = _status(row["status"] or "")
    answer: dict[str, Any] = {
        "id": row["friendlyId"],
        "status": status.value,
        "taskIdentifier": row["taskIdentifier"],
        "isTest": row.get("isTest") == "t",
        "idempotencyKey": row.get("idempotencyKey"),
        "ttl": row.get("ttl"),
        "tags": _array(row.get("runTags") or "{}"),
        "streams": _array(row.get("realtimeStreams") or "{}"),
        "durationMs": float(row.get("usageDurationMs") or 0),
        "metadata": _value(row.get("metadata"), row.get("metadataType")),
        "payload": _value(row.get("payload"), row.get("payloadType")),
        "output": _value(row.get("output"), row.get("outputType")),
        **status_flags(status),
    }
    for column, name in _TIMES.items():
        answer[name] = _time(row.get(column))
    answer["updatedAt"] = answer["updatedAt"] or answer["createdAt"]
    if (error := row.get("error")) is not None:
        found: dict[str, Any] = msgspec.json.decode(error)
        answer["error"] = {**found, "name": found.get("name") or found.get("code"), "message": found.get("message") or found.get("raw", "")}
    return parse_run(answer)


def _status(text: str) -> Status:
    try:
        return _STATUS.get(text) or Status(text)
    except ValueError:
        return Status.QUEUED  # a status of a newer server


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


def _value(data: str | None, data_type: str | None) -> Any:
    return None if data is None else packets.decode(data, data_type or packets.JSON)


def _array(text: str) -> list[str]:
    """The elements of PostgreSQL's `{"a","b"}`."""
    found: list[str] = []
    part, quoted, escaped = "", False, False
    for char in text[1:-1]:
        if escaped:
            part, escaped = part + char, False
        elif char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            found.append(part)
            part = ""
        else:
            part += char
    return [*found, part] if text != "{}" else []
