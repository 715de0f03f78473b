"""What may be deleted: a bounded number is looked at each time, so that what waits for long holds up nothing."""

from __future__ import annotations

from typing import Literal

from outlast.store.database import Connection

_ENDED = {"runs": "finished_at", "batches": "COALESCE(completed_at, aborted_at)"}


def ended(tx: Connection, table: Literal["runs", "batches"], before: int, after: str, limit: int) -> tuple[list[str], str]:
    """Those that ended before that time and whose parent is over, as it may be given their results again in a replay.

    They are looked at in the order of their ids, which is that of their making. With where to go on, "" at the end.
    """
    rows = tx.all(
        "SELECT r.id, r.ended_at, r.created_at, p.id, p.finished_at FROM"
        f" (SELECT id, {_ENDED[table]} AS ended_at, created_at, parent_id FROM {table} WHERE id > :after ORDER BY id LIMIT :limit) r"
        " LEFT JOIN runs p ON p.id = r.parent_id ORDER BY r.id",
        after=after,
        limit=limit,
    )
    following = rows[-1][0] if len(rows) == limit and rows[-1][2] < before else ""
    return [row[0] for row in rows if row[1] is not None and row[1] < before and (row[3] is None or row[4] is not None)], following
