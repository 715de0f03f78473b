"""Schedules, and their ticks: what was done at each nominal time, once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

import msgspec

from outlast.model.schedule import Schedule, Tick
from outlast.store.database import Again, Connection, Row

_FIELDS = tuple(field.name for field in msgspec.structs.fields(Schedule))
_COLUMNS = tuple("window_" if name == "window" else name for name in _FIELDS)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM schedules"
_values = attrgetter(*_FIELDS)
_AT_ACTIVE = _FIELDS.index("active")


def lock(tx: Connection, ids: Collection[str]) -> dict[str, Schedule]:
    rows = tx.all(f"{_SELECT} WHERE id {{in:ids}} ORDER BY id {{for_update}}", ids=sorted(ids)) if ids else []
    return {row[0]: _schedule(row) for row in rows}


def one(tx: Connection, env_id: int, schedule_id: str) -> Schedule | None:
    rows = tx.all(f"{_SELECT} WHERE env_id = :env AND id = :id", env=env_id, id=schedule_id)
    return _schedule(rows[0]) if rows else None


def with_key(tx: Connection, env_id: int, key: str) -> Schedule | None:
    rows = tx.all(f"{_SELECT} WHERE env_id = :env AND deduplication_key = :key", env=env_id, key=key)
    return _schedule(rows[0]) if rows else None


def declared(tx: Connection, env_id: int) -> dict[str, Schedule]:
    """The declarative schedules of an environment, by task."""
    rows = tx.all(f"{_SELECT} WHERE env_id = :env AND type = 'DECLARATIVE' ORDER BY id", env=env_id)
    return {found.task: found for found in map(_schedule, rows)}


def page(tx: Connection, env_id: int, *, offset: int, limit: int) -> tuple[int, list[Schedule]]:
    total = count(tx, env_id)
    rows = tx.all(f"{_SELECT} WHERE env_id = :env ORDER BY id DESC LIMIT :limit OFFSET :offset", env=env_id, limit=limit, offset=offset)
    return total, [_schedule(row) for row in rows]


def count(tx: Connection, env_id: int) -> int:
    return tx.all("SELECT count(*) FROM schedules WHERE env_id = :env", env=env_id)[0][0]


def due(tx: Connection, now: int, limit: int) -> list[tuple[str, int, str, str | None]]:
    """(id, environment, task, last run) of schedules whose time has come."""
    rows = tx.all(
        "SELECT id, env_id, task, last_run_id FROM schedules WHERE due_at <= :now ORDER BY due_at LIMIT :limit", now=now, limit=limit
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def next_due(tx: Connection) -> int | None:
    return tx.all("SELECT min(due_at) FROM schedules WHERE due_at IS NOT NULL")[0][0]


def insert(tx: Connection, schedule: Schedule) -> None:
    """
    Raises:
        Again: another transaction took its key meanwhile.
    """
    tx.insert("schedules", _COLUMNS, [_row(schedule)], or_ignore=True, expect=1, otherwise=Again)


def save(tx: Connection, schedules: Sequence[Schedule]) -> None:
    tx.update("schedules", _COLUMNS[1:], ["id"], [(*_row(s)[1:], s.id) for s in schedules])


def delete(tx: Connection, ids: Sequence[str]) -> None:
    if ids:
        tx.execute("DELETE FROM ticks WHERE schedule_id {in:ids}", ids=list(ids))
        tx.execute("DELETE FROM schedules WHERE id {in:ids}", ids=list(ids))


def add_ticks(tx: Connection, rows: Sequence[tuple[str, int, int, str | None, str | None]]) -> None:
    """(schedule, nominal time, now, run, why there is none)

    Raises:
        Again: one of the times was fired meanwhile.
    """
    columns = ("schedule_id", "nominal_at", "at", "run_id", "reason")
    tx.insert("ticks", columns, rows, or_ignore=True, expect=len(rows), otherwise=Again)


def ticked(tx: Connection, schedule_id: str, times: Collection[int]) -> set[int]:
    """Which of these nominal times were decided already."""
    rows = tx.all("SELECT nominal_at FROM ticks WHERE schedule_id = :id AND nominal_at {in:times}", id=schedule_id, times=sorted(times))
    return {row[0] for row in rows}


def ticks(tx: Connection, schedule_id: str, limit: int) -> list[Tick]:
    """What was done lately, the newest nominal time first."""
    rows = tx.all(
        "SELECT nominal_at, at, run_id, reason FROM ticks WHERE schedule_id = :id ORDER BY nominal_at DESC LIMIT :limit",
        id=schedule_id,
        limit=limit,
    )
    return [Tick(*row) for row in rows]


def prune_ticks(tx: Connection, before: int, limit: int) -> int:
    old = "SELECT schedule_id, nominal_at FROM ticks WHERE at < :before ORDER BY at LIMIT :limit"
    return tx.execute(f"DELETE FROM ticks WHERE (schedule_id, nominal_at) IN ({old})", before=before, limit=limit)


def has_worker(tx: Connection, env_id: int) -> bool:
    return bool(tx.all("SELECT 1 FROM sessions WHERE env_id = :env AND state = 'open' LIMIT 1", env=env_id))


def _row(s: Schedule) -> Row:
    values: Row = _values(s)
    return (*values[:_AT_ACTIVE], int(s.active), *values[_AT_ACTIVE + 1 :])


def _schedule(row: Row) -> Schedule:
    found = dict(zip(_FIELDS, row, strict=True))
    found["active"] = bool(found["active"])
    return Schedule(**found)
