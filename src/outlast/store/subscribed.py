"""Which runs a subscription to tags or to a batch begins with."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.model.ids import lowest
from outlast.store.database import Connection


def by_tags(tx: Connection, env_id: int, tags: Sequence[str], since: int, limit: int) -> list[str]:
    """Ids of the newest runs that have all these tags, or of any when there are none; made since then, newest first."""
    first = lowest("run", since)
    if not tags:
        rows = tx.all(
            "SELECT id FROM runs WHERE env_id = :env AND id >= :first ORDER BY id DESC LIMIT :limit", env=env_id, first=first, limit=limit
        )
    else:
        rows = tx.all(
            "SELECT run_id FROM run_tags WHERE env_id = :env AND tag {in:tags} AND run_id >= :first"
            " GROUP BY run_id HAVING count(*) = :n ORDER BY run_id DESC LIMIT :limit",
            env=env_id, tags=list(tags), first=first, n=len(tags), limit=limit,
        )  # fmt: skip
    return [row[0] for row in rows]


def by_batch(tx: Connection, batch_id: str, limit: int) -> list[str]:
    rows = tx.all(
        "SELECT run_id FROM batch_items WHERE batch_id = :id AND run_id IS NOT NULL ORDER BY index_ LIMIT :limit", id=batch_id, limit=limit
    )
    return [row[0] for row in rows]
