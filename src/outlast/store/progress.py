"""How far things are, as numbers that only tell whether something is new."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.store.database import Connection


def of_runs(tx: Connection, runs: Sequence[str]) -> int:
    """Changes with the journals, lines, streams and children of these runs."""
    rows = tx.all(
        "SELECT r.next_seq, (SELECT COALESCE(max(l.seq), 0) FROM logs l WHERE l.run_id = r.id),"
        " (SELECT COALESCE(sum(c.updated_at), 0) FROM runs c WHERE c.parent_id = r.id),"
        " (SELECT COALESCE(sum(s.next_seq), 0) FROM streams s WHERE s.run_id = r.id) FROM runs r WHERE r.id {in:ids}",
        ids=sorted(runs),
    )
    return hash(tuple(rows))


def of_lines(tx: Connection) -> int:
    return tx.all("SELECT COALESCE(max(seq), 0) FROM logs")[0][0]
