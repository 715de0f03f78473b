"""Batches and their items."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from outlast.store import retention
from outlast.store.database import Connection, Row

_COLUMNS = (
    "id, env_id, parent_id, parent_key, idempotency_key, expected, received, remaining, failed,"
    " created_at, updated_at, sealed_at, completed_at, aborted_at"
)


class Batch(msgspec.Struct, kw_only=True):
    """`remaining` counts items whose run is not over; at 0 the batch is complete."""

    id: str
    env_id: int
    parent_id: str | None = None
    parent_key: str | None = None  # the entry of the parent's journal that waits for it
    idempotency_key: str | None = None
    expected: int
    received: int = 0
    remaining: int
    failed: int = 0
    created_at: int
    updated_at: int
    sealed_at: int | None = None
    completed_at: int | None = None
    aborted_at: int | None = None

    @property
    def status(self) -> str:
        if self.aborted_at is not None:
            return "ABORTED"
        if self.sealed_at is None:
            return "PENDING"
        if self.completed_at is None:
            return "PROCESSING"
        return "PARTIAL_FAILED" if self.failed else "COMPLETED"


_NAMES = tuple(_COLUMNS.split(", "))


def lock(tx: Connection, ids: Collection[str]) -> dict[str, Batch]:
    rows = tx.all(f"SELECT {_COLUMNS} FROM batches WHERE id {{in:ids}} ORDER BY id {{for_update}}", ids=sorted(ids)) if ids else []
    return {row[0]: _batch(row) for row in rows}


def read(tx: Connection, env_id: int, batch_id: str) -> Batch | None:
    rows = tx.all(f"SELECT {_COLUMNS} FROM batches WHERE id = :id AND env_id = :env", id=batch_id, env=env_id)
    return _batch(rows[0]) if rows else None


def insert(tx: Connection, batches: Collection[Batch]) -> None:
    tx.insert("batches", _NAMES, [tuple(getattr(b, name) for name in _NAMES) for b in batches])


def save(tx: Connection, batches: Collection[Batch]) -> None:
    tx.many(
        "UPDATE batches SET received = ?, remaining = ?, failed = ?, updated_at = ?, sealed_at = ?, completed_at = ?, aborted_at = ?"
        " WHERE id = ?",
        [
            (b.received, b.remaining, b.failed, b.updated_at, b.sealed_at, b.completed_at, b.aborted_at, b.id)
            for b in sorted(batches, key=lambda b: b.id)
        ],
    )


def items(tx: Connection, batch_id: str) -> list[tuple[int, str | None, str, str | None]]:
    """(index, run id, task, error) in order."""
    rows = tx.all("SELECT index_, run_id, task, error FROM batch_items WHERE batch_id = :id ORDER BY index_", id=batch_id)
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def finished(tx: Connection, batch_id: str) -> list[int]:
    """Which items are over: their runs are, or there was none to make."""
    rows = tx.all(
        "SELECT i.index_ FROM batch_items i LEFT JOIN runs r ON r.id = i.run_id"
        " WHERE i.batch_id = :id AND (i.run_id IS NULL OR r.finished_at IS NOT NULL) ORDER BY i.index_",
        id=batch_id,
    )
    return [row[0] for row in rows]


def items_at(tx: Connection, keys: Collection[tuple[str, int]]) -> dict[tuple[str, int], str | None]:
    """Run ids of the items that have already arrived."""
    found: dict[tuple[str, int], str | None] = {}
    for batch_id in {key[0] for key in keys}:
        indexes = sorted(key[1] for key in keys if key[0] == batch_id)
        rows = tx.all("SELECT index_, run_id FROM batch_items WHERE batch_id = :id AND index_ {in:indexes}", id=batch_id, indexes=indexes)
        found.update({(batch_id, row[0]): row[1] for row in rows})
    return found


def add_items(tx: Connection, rows: Sequence[tuple[str, int, str | None, str, str | None]]) -> None:
    """(batch id, index, run id, task, error)"""
    tx.insert("batch_items", ("batch_id", "index_", "run_id", "task", "error"), rows)


def move_items(tx: Connection, rows: Sequence[tuple[str, str, str]]) -> None:
    """(run that an item is from now on, batch id, run that it was)"""
    if rows:
        tx.many("UPDATE batch_items SET run_id = ? WHERE batch_id = ? AND run_id = ?", rows)


def _batch(row: Row) -> Batch:
    return Batch(**dict(zip(_NAMES, row, strict=True)))


def prune(tx: Connection, before: int, after: str, limit: int) -> tuple[int, str]:
    """Delete batches that ended before that time, and whose parent and runs are over; as `runs.prune`."""
    ended, following = retention.ended(tx, "batches", before, after, limit)
    if not ended:
        return 0, following
    busy = tx.all(  # of an aborted one runs may still go on
        "SELECT DISTINCT i.batch_id FROM batch_items i JOIN runs r ON r.id = i.run_id"
        " WHERE i.batch_id {in:ids} AND r.batch_id = i.batch_id AND r.finished_at IS NULL",
        ids=ended,
    )
    if ids := sorted(set(ended) - {row[0] for row in busy}):
        tx.send("DELETE FROM batch_items WHERE batch_id {in:ids}", ids=ids)
        tx.send("DELETE FROM batches WHERE id {in:ids}", ids=ids)
    return len(ids), following
