"""Alert channels, and what is to be delivered to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from outlast.model.alert import AlertChannel, Delivery
from outlast.store.database import Connection, Row
from outlast.store.outbox import Position

CONSUMER = "alerts"
_CHANNEL = tuple(field.name for field in msgspec.structs.fields(AlertChannel))
_DELIVERY = tuple(field.name for field in msgspec.structs.fields(Delivery))
_SELECT = f"SELECT {', '.join(_CHANNEL)} FROM alert_channels"


def add(tx: Connection, channel: AlertChannel, now: Position) -> None:
    """The reader begins with what happens from now on, if it does not read already."""
    tx.insert("alert_channels", _CHANNEL, [_row(channel)], expect=1)
    tx.insert("cursors", ("consumer", "tx", "seq"), [(CONSUMER, now.tx, now.seq)], or_ignore=True)


def save(tx: Connection, channel: AlertChannel) -> None:
    row = _row(channel)
    tx.update("alert_channels", _CHANNEL[1:], ["id"], [(*row[1:], channel.id)])


def delete(tx: Connection, env_id: int, channel_id: str) -> bool:
    gone = tx.execute("DELETE FROM alert_channels WHERE env_id = :env AND id = :id", env=env_id, id=channel_id) == 1
    if gone:
        for table in ("deliveries", "alert_groups"):
            tx.execute(f"DELETE FROM {table} WHERE channel_id = :id", id=channel_id)
        tx.execute("DELETE FROM cursors WHERE consumer = :name AND NOT EXISTS (SELECT 1 FROM alert_channels)", name=CONSUMER)
    return gone


def listed(tx: Connection, env_id: int | None = None, *, lock: bool = False) -> list[AlertChannel]:
    if env_id is None:
        return [_channel(row) for row in tx.all(f"{_SELECT} ORDER BY id" + (" {for_update}" if lock else ""))]
    return [_channel(row) for row in tx.all(f"{_SELECT} WHERE env_id = :env ORDER BY id", env=env_id)]


def reseal(tx: Connection, channel_id: str, sealed: str) -> None:
    tx.execute("UPDATE alert_channels SET secret = :sealed WHERE id = :id", sealed=sealed, id=channel_id)


def one(tx: Connection, channel_id: str, env_id: int | None = None) -> AlertChannel | None:
    rows = tx.all(f"{_SELECT} WHERE id = :id", id=channel_id)
    found = _channel(rows[0]) if rows else None
    return found if found is not None and (env_id is None or found.env_id == env_id) else None


def position(tx: Connection) -> Position | None:
    """How far the outbox was read, held against other servers until this transaction ends."""
    rows = tx.all("SELECT tx, seq FROM cursors WHERE consumer = :name {for_update}", name=CONSUMER)
    return Position(rows[0][0], rows[0][1]) if rows else None


def move(tx: Connection, to: Position) -> None:
    tx.execute("UPDATE cursors SET tx = :tx, seq = :seq WHERE consumer = :name", tx=to.tx, seq=to.seq, name=CONSUMER)


def plan(tx: Connection, deliveries: Sequence[Delivery]) -> None:
    """An event is planned once for a channel, however often it is read."""
    tx.insert("deliveries", _DELIVERY, [msgspec.structs.astuple(d) for d in deliveries], or_ignore=True)


def group(tx: Connection, channel_id: str, key: str) -> tuple[int, int] | None:
    """(until, more) of the group that is open."""
    rows = tx.all("SELECT until, more FROM alert_groups WHERE channel_id = :id AND key = :key", id=channel_id, key=key)
    return (rows[0][0], rows[0][1]) if rows else None


def save_group(tx: Connection, channel_id: str, key: str, until: int, more: int, ref: str) -> None:
    tx.many(
        "INSERT INTO alert_groups (channel_id, key, until, more, ref) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (channel_id, key) DO UPDATE SET until = excluded.until, more = excluded.more, ref = excluded.ref",
        [(channel_id, key, until, more, ref)],
    )


def ended_groups(tx: Connection, now: int, limit: int) -> list[tuple[str, str, int, str]]:
    """(channel, key, more, ref)"""
    rows = tx.all(
        "SELECT channel_id, key, more, ref FROM alert_groups WHERE until <= :now ORDER BY channel_id, key LIMIT :limit",
        now=now,
        limit=limit,
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def close_group(tx: Connection, channel_id: str, key: str) -> None:
    tx.execute("DELETE FROM alert_groups WHERE channel_id = :id AND key = :key", id=channel_id, key=key)


def take(tx: Connection, now: int, again_at: int, limit: int) -> list[Delivery]:
    """Due deliveries, taken until `again_at`: a server that dies with them leaves them to the next look."""
    lock = " FOR UPDATE SKIP LOCKED" if tx.is_postgres else ""
    rows = tx.all(
        f"SELECT {', '.join(_DELIVERY)} FROM deliveries WHERE next_at <= :now ORDER BY next_at LIMIT :limit" + lock, now=now, limit=limit
    )
    found = [_delivery(row) for row in rows]
    tx.update("deliveries", ("next_at",), ["id"], [(again_at, d.id) for d in found])
    return found


def done(tx: Connection, d: Delivery) -> None:
    tx.update("deliveries", ("status", "tries", "next_at", "error"), ["id"], [(d.status, d.tries, d.next_at, d.error, d.id)])


def deliveries(tx: Connection, channel_id: str, limit: int) -> list[Delivery]:
    sql = f"SELECT {', '.join(_DELIVERY)} FROM deliveries WHERE channel_id = :id ORDER BY created_at DESC, id DESC LIMIT :limit"
    return [_delivery(row) for row in tx.all(sql, id=channel_id, limit=limit)]


def slow_queues(tx: Connection, env_id: int, before: int) -> list[tuple[str, int]]:
    """(queue, position of its oldest entry) of queues that hold something from before that time, and are not paused."""
    rows = tx.all(
        "SELECT q.name, min(l.head) FROM lanes l JOIN queues q ON q.id = l.queue_id WHERE l.env_id = :env AND l.queued > 0"
        " AND l.head < :before AND q.paused = 0 GROUP BY q.name ORDER BY q.name LIMIT 50",
        env=env_id, before=before,
    )  # fmt: skip
    return [(row[0], row[1]) for row in rows]


def prune(tx: Connection, before: int, limit: int) -> int:
    old = "SELECT id FROM deliveries WHERE next_at IS NULL AND created_at < :before LIMIT :limit"
    return tx.execute(f"DELETE FROM deliveries WHERE id IN ({old})", before=before, limit=limit)


def _row(channel: AlertChannel) -> Row:
    values: dict[str, Any] = {name: getattr(channel, name) for name in _CHANNEL}
    values |= {name: msgspec.json.encode(values[name]).decode() for name in ("events", "tasks")}
    values["enabled"] = int(channel.enabled)
    return tuple(values.values())


def _channel(row: Row) -> AlertChannel:
    values: dict[str, Any] = dict(zip(_CHANNEL, row, strict=True))
    values |= {name: msgspec.json.decode(values[name]) for name in ("events", "tasks")}
    values["enabled"] = bool(values["enabled"])
    return AlertChannel(**values)


def _delivery(row: Row) -> Delivery:
    return Delivery(**dict(zip(_DELIVERY, row, strict=True)))
