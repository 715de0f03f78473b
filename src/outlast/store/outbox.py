"""The outbox: the events of all runs, in an order in which a reader that goes on from a position misses nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from outlast.model.run import FINAL, Execution, Status
from outlast.store import runs
from outlast.store.database import Connection, Row

_LAST = 2**62  # no seq reaches it


class Position(NamedTuple):
    """A place in the outbox, the same for every server on this database."""

    tx: int
    seq: int


class Change(msgspec.Struct, kw_only=True, gc=False):
    """One committed change of a run. `n` counts the changes of its run from 1; `tags` are None until somebody asked."""

    position: Position
    env_id: int
    run_id: str
    n: int
    kind: str
    at: int
    status: Status
    execution: Execution
    attempt: int
    task: str = ""
    queue: str = ""
    batch_id: str | None = None
    tags: Sequence[str] | None = None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


class _Data(msgspec.Struct):
    status: Status
    execution: Execution
    attempt: int = 0


_data = msgspec.json.Decoder(_Data).decode
_COLUMNS = "e.seq, e.env_id, e.run_id, e.n, e.kind, e.at, e.data, r.task, r.queue, r.batch_id"
_FROM = "FROM events e LEFT JOIN runs r ON r.id = e.run_id"


def newest(tx: Connection) -> Position:
    """Everything that is committed is before it, everything that is not comes after it."""
    if tx.is_postgres:
        [(oldest_running,)] = tx.all("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        return Position(int(oldest_running) - 1, _LAST)
    [(seq,)] = tx.all("SELECT coalesce(max(seq), 0) FROM events")
    return Position(0, seq)


def after(tx: Connection, position: Position, limit: int) -> tuple[list[Change], bool]:
    """What follows, oldest first; and whether something is committed that must wait for an older transaction to end.

    On PostgreSQL a transaction that began earlier may commit later: nothing at or above the oldest running one is given out.
    """
    if tx.is_postgres:
        rows = tx.all(
            f"SELECT e.tx::text, e.tx < pg_snapshot_xmin(pg_current_snapshot()), {_COLUMNS} {_FROM}"
            " WHERE (e.tx, e.seq) > (CAST(:tx AS xid8), :seq) ORDER BY e.tx, e.seq LIMIT :limit",
            tx=str(position.tx), seq=position.seq, limit=limit,
        )  # fmt: skip
    else:
        rows = tx.all(
            f"SELECT 0, 1, {_COLUMNS} {_FROM} WHERE e.seq > :seq ORDER BY e.seq LIMIT :limit",
            seq=position.seq, limit=limit,
        )  # fmt: skip
    settled = [row for row in rows if row[1]]
    return [_change(Position(int(row[0]), row[2]), row[3:]) for row in settled], len(settled) < len(rows)


def of_run(tx: Connection, run_id: str, after_n: int, limit: int) -> list[Change]:
    """The newest changes of one run after its `after_n`th, oldest first. They were committed in this order: none can be missing."""
    rows = tx.all(
        f"SELECT {_COLUMNS} {_FROM} WHERE e.run_id = :run_id AND e.n > :n ORDER BY e.n DESC LIMIT :limit",
        run_id=run_id, n=after_n, limit=limit,
    )  # fmt: skip
    return [_change(Position(0, row[0]), row[1:]) for row in reversed(rows)]


def _change(position: Position, row: Row) -> Change:
    env_id, run_id, n, kind, at, data, task, queue, batch_id = row
    found = _data(data)
    return Change(
        position=position, env_id=env_id, run_id=run_id, n=n, kind=kind, at=at, status=found.status,
        execution=found.execution, attempt=found.attempt,
        task=task or "", queue=queue or "", batch_id=batch_id,
    )  # fmt: skip


def add_tags(tx: Connection, changes: Sequence[Change], envs: Collection[int] | None = None) -> None:
    """Look up the tags of those runs that have none known; of these environments only."""
    missing = [c for c in changes if c.tags is None and (envs is None or c.env_id in envs)]
    data: dict[str, Any] = runs.data(tx, {c.run_id for c in missing})
    for change in missing:
        found = data.get(change.run_id)
        change.tags = tuple(found.options.tags) if found is not None else ()
