"""Timers and work items: what upkeep does when it is due."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from outlast.store.database import Connection


def add(tx: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    """(due_at, kind, ref)"""
    tx.insert("timers", ("due_at", "kind", "ref"), rows, or_ignore=True)


def remove(tx: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    tx.delete("timers", ("due_at", "kind", "ref"), rows)


def forget_waits(tx: Connection, run_ids: Collection[str]) -> None:
    """Those of waits that nobody waits for any more: the runs are over, or began another journal."""
    if run_ids:
        tx.send(
            "DELETE FROM timers WHERE kind = 'wait' AND (due_at, ref) IN"
            " (SELECT j.due_at, j.id FROM journal j JOIN runs r ON r.id = j.run_id"
            " WHERE j.run_id {in:ids} AND j.seq IS NULL AND j.due_at IS NOT NULL AND (r.finished_at IS NOT NULL OR j.journal < r.journal))",
            ids=sorted(run_ids),
        )


def due(tx: Connection, now: int, limit: int) -> list[tuple[int, str, str]]:
    rows = tx.all("SELECT due_at, kind, ref FROM timers WHERE due_at <= :now ORDER BY due_at LIMIT :limit", now=now, limit=limit)
    return [(row[0], row[1], row[2]) for row in rows]


def next_due(tx: Connection) -> int | None:
    return tx.all("SELECT min(due_at) FROM timers")[0][0]


def add_work(tx: Connection, rows: Sequence[tuple[str, str, str, int]]) -> None:
    """(id, kind, ref, run_after)"""
    tx.insert("work", ("id", "kind", "ref", "run_after"), rows, or_ignore=True)


def remove_work(tx: Connection, rows: Sequence[tuple[str]]) -> None:
    tx.delete("work", ["id"], rows)


def put_off_work(tx: Connection, id: str, until: int) -> None:
    tx.execute("UPDATE work SET run_after = :until, tries = tries + 1 WHERE id = :id", id=id, until=until)


def due_work(tx: Connection, now: int, limit: int) -> list[tuple[str, str, str]]:
    """(id, kind, ref)"""
    rows = tx.all("SELECT id, kind, ref FROM work WHERE run_after <= :now ORDER BY run_after LIMIT :limit", now=now, limit=limit)
    return [(row[0], row[1], row[2]) for row in rows]
