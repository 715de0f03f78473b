"""Events: one append-only row per run and transaction; snapshot history, outbox and audit at once. And the logs of runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from outlast.model.messages import LogLine
from outlast.model.run import Event
from outlast.store.database import Connection

_encode = msgspec.json.encode


def append(tx: Connection, events: Iterable[Event]) -> None:
    tx.insert(
        "events",
        ("env_id", "run_id", "n", "kind", "at", "data"),
        [(e.env_id, e.run_id, e.n, e.kind, e.at, _encode(e.data).decode()) for e in events],
    )


def history(tx: Connection, run_id: str) -> list[tuple[int, str, int, dict[str, Any]]]:
    """(n, kind, at, data) of a run, oldest first."""
    rows = tx.all("SELECT n, kind, at, data FROM events WHERE run_id = :run_id ORDER BY n", run_id=run_id)
    return [(row[0], row[1], row[2], msgspec.json.decode(row[3])) for row in rows]


def append_logs(tx: Connection, lines: Iterable[LogLine]) -> None:
    tx.insert(
        "logs",
        ("run_id", "attempt", "at", "level", "source", "message", "data"),
        [(x.run_id, x.attempt, x.at, x.level, x.source, x.message, _encode(x.data).decode() if x.data else None) for x in lines],
    )


def logs(tx: Connection, run_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
    rows = tx.all(
        "SELECT seq, attempt, at, level, source, message, data FROM logs"
        " WHERE run_id = :run_id AND seq > :after AND source <> 'span' ORDER BY seq LIMIT :limit",
        run_id=run_id, after=after, limit=limit,
    )  # fmt: skip
    return [
        {
            "n": n,
            "attempt": attempt,
            "at": at,
            "level": level,
            "source": source,
            "message": message,
            "data": msgspec.json.decode(data) if data else None,
        }
        for n, attempt, at, level, source, message, data in rows
    ]


def prune(tx: Connection, before: int, limit: int) -> int:
    """Drop the oldest events and logs of before that time, a bounded number."""
    gone = 0
    for table in ("events", "logs"):
        oldest = f"SELECT seq, at FROM {table} ORDER BY seq LIMIT :limit"
        sql = f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM ({oldest}) old WHERE old.at < :before)"
        gone += tx.execute(sql, before=before, limit=limit)
    return gone
