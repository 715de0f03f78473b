"""Bulk actions, and what was done with each of their runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

import msgspec

from outlast.model.bulk import BulkAction, Target
from outlast.store import search
from outlast.store.database import Connection, Row
from outlast.store.search import Filter

_FIELDS = tuple(field.name for field in msgspec.structs.fields(BulkAction))
_COLUMNS = tuple("cursor_" if name == "cursor" else name for name in _FIELDS)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM bulk_actions"
_values = attrgetter(*_FIELDS)
_filter = msgspec.json.Decoder(Filter).decode


def insert(tx: Connection, action: BulkAction) -> None:
    tx.insert("bulk_actions", _COLUMNS, [_values(action)], expect=1)


def save(tx: Connection, action: BulkAction) -> None:
    row: Row = _values(action)
    tx.update("bulk_actions", _COLUMNS[1:], ["id"], [(*row[1:], action.id)])


def one(tx: Connection, env_id: int, bulk_id: str, *, lock: bool = False) -> BulkAction | None:
    suffix = " {for_update}" if lock else ""
    rows = tx.all(f"{_SELECT} WHERE env_id = :env AND id = :id" + suffix, env=env_id, id=bulk_id)
    return BulkAction(**dict(zip(_FIELDS, rows[0], strict=True))) if rows else None


def page(tx: Connection, env_id: int, *, after: str | None, before: str | None, limit: int) -> list[BulkAction]:
    """The newest first; the oldest first when looking before one."""
    order, bound = ("ASC", "id > :at") if before else ("DESC", "id < :at")
    condition = f" AND {bound}" if before or after else ""
    params = {"at": before or after} if before or after else {}
    rows = tx.all(f"{_SELECT} WHERE env_id = :env{condition} ORDER BY id {order} LIMIT :limit", env=env_id, limit=limit, **params)
    found = [BulkAction(**dict(zip(_FIELDS, row, strict=True))) for row in rows]
    return found[::-1] if before else found


def pending_replays(tx: Connection, env_id: int) -> int:
    sql = "SELECT count(*) FROM bulk_actions WHERE env_id = :env AND status = 'PENDING' AND type = 'REPLAY'"
    return tx.all(sql, env=env_id)[0][0]


def add_items(tx: Connection, rows: Sequence[tuple[str, str, str | None, str | None]]) -> None:
    """(action, run, run it made, why it was not done)"""
    tx.insert("bulk_items", ("bulk_id", "run_id", "made_run_id", "error"), rows, or_ignore=True)


def targets(tx: Connection, action: BulkAction, limit: int) -> list[Target]:
    """The next runs behind the action's cursor, newest first."""
    if action.filter is not None:
        f = msgspec.structs.replace(_filter(action.filter), after=action.cursor)
        return [Target(run.id, run.task, run.queue, run.concurrency_key) for run, _ in search.rows(tx, f, limit)]
    if action.undo_of is not None:
        ids = undoable(tx, action, limit)
    else:
        ids = [i for i in msgspec.json.decode(action.run_ids or "[]", type=list[str]) if action.cursor is None or i < action.cursor][:limit]
    known = {row[0]: Target(*row) for row in _read(tx, action.env_id, ids)}
    return [known.get(run_id) or Target(run_id, "", "", None) for run_id in ids]


def _read(tx: Connection, env_id: int, ids: Collection[str]) -> list[Row]:
    sql = "SELECT id, task, queue, concurrency_key FROM runs WHERE env_id = :env AND id {in:ids}"
    return tx.all(sql, env=env_id, ids=sorted(ids)) if ids else []


def undoable(tx: Connection, action: BulkAction, limit: int) -> list[str]:
    """What the other action did and has not run: replays that wait, or runs it cancelled before they had begun."""
    column = "i.made_run_id" if action.type == "CANCEL" else "i.run_id"
    rows = tx.all(
        f"SELECT {column} FROM bulk_items i JOIN runs r ON r.id = {column} WHERE i.bulk_id = :other AND i.error IS NULL"
        f" AND r.started_at IS NULL AND (CAST(:cursor AS TEXT) IS NULL OR {column} < :cursor) ORDER BY {column} DESC LIMIT :limit",
        other=action.undo_of,
        cursor=action.cursor,
        limit=limit,
    )
    return [row[0] for row in rows]
