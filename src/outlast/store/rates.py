"""Queues with a rate or a combined limit: what they allow now. Read and written by the claim, under its environment's lock."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from outlast.model.rate import Rate
from outlast.store.database import Connection

Key = tuple[int, str]  # queue, concurrency key; "" for all keys of the queue together


class Control(msgspec.Struct, frozen=True):
    """A queue's own rules, and how many slots all its lanes hold."""

    queue_id: int
    combined: int | None
    rate: Rate | None
    used: int


def controls(tx: Connection, env_id: int) -> list[Control]:
    rows = tx.all(
        "SELECT q.id, q.combined_, q.rate_limit, q.rate_period_ms, q.rate_burst, q.rate_per_key,"
        " CASE WHEN q.combined_ IS NULL THEN 0 ELSE (SELECT COALESCE(sum(l.used), 0) FROM lanes l WHERE l.queue_id = q.id) END"
        " FROM queues q WHERE q.env_id = :env AND (q.combined_ IS NOT NULL OR q.rate_limit IS NOT NULL)",
        env=env_id,
    )
    return [
        Control(
            queue_id,
            combined,
            None if limit is None else Rate(limit=limit, period_ms=period_ms, burst=burst, per_key=bool(per_key)),
            int(used),
        )
        for queue_id, combined, limit, period_ms, burst, per_key, used in rows
    ]


def filled(tx: Connection, keys: Collection[Key]) -> dict[Key, int]:
    """Of rates that were used before."""
    found: dict[Key, int] = {}
    for queue_id in sorted({key[0] for key in keys}):
        texts = sorted(key[1] for key in keys if key[0] == queue_id)
        rows = tx.all("SELECT key, filled_at FROM rates WHERE queue_id = :queue AND key {in:keys}", queue=queue_id, keys=texts)
        found.update({(queue_id, row[0]): row[1] for row in rows})
    return found


def save(tx: Connection, rows: Sequence[tuple[int, str, int, int]]) -> None:
    """(queue, key, filled_at, open_at)"""
    tx.many(
        "INSERT INTO rates (queue_id, key, filled_at, open_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (queue_id, key) DO UPDATE SET filled_at = excluded.filled_at, open_at = excluded.open_at",
        rows,
    )


def prune(tx: Connection, now: int, limit: int) -> int:
    """Rates of which nothing counts any more: as if they had never been used."""
    old = "SELECT queue_id, key FROM rates WHERE filled_at < :past LIMIT :limit"
    return tx.execute(f"DELETE FROM rates WHERE (queue_id, key) IN ({old})", past=(now - 60_000) * 1_000, limit=limit)
