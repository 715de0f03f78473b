"""Idempotency keys (of users) and request ids (of clients' retries): each names the run it once made."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from outlast.store.database import Again, Connection, Later

Key = tuple[int, str, str]  # environment, task, hash of the key


def holders(tx: Connection, keys: Collection[Key], *, lock: bool = False) -> dict[Key, tuple[str, int]]:
    """(run id, expires_at) of each key that is taken."""
    suffix = " ORDER BY key_hash {for_update}" if lock else ""
    found: dict[Key, tuple[str, int]] = {}
    for env_id, task in sorted({(k[0], k[1]) for k in keys}):
        hashes = sorted(k[2] for k in keys if k[0] == env_id and k[1] == task)
        rows = tx.all(
            "SELECT key_hash, run_id, expires_at FROM idempotency WHERE env_id = :env AND task = :task AND key_hash {in:hashes}" + suffix,
            env=env_id, task=task, hashes=hashes,
        )  # fmt: skip
        found.update({(env_id, task, row[0]): (row[1], row[2]) for row in rows})
    return found


def reserve(tx: Connection, rows: Sequence[tuple[int, str, str, str, int, str | None]]) -> None:
    """(env, task, hash, run id, expires_at, the holder to replace)

    Raises:
        Again: another transaction took one of the keys meanwhile; it stays theirs.
    """
    tx.many(
        "INSERT INTO idempotency (env_id, task, key_hash, run_id, expires_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (env_id, task, key_hash) DO UPDATE SET run_id = excluded.run_id, expires_at = excluded.expires_at"
        " WHERE idempotency.run_id = ?",
        rows,
        expect=len(rows),
        otherwise=Again,
    )


def holds(tx: Connection, env_id: int, task: str, run_id: str) -> bool:
    """Whether triggers with the key of this run still get this run."""
    sql = "SELECT 1 FROM idempotency WHERE env_id = :env AND task = :task AND run_id = :run LIMIT 1"
    return bool(tx.all(sql, env=env_id, task=task, run=run_id))


def release(tx: Connection, env_id: int, task: str, key_hash: str) -> str | None:
    rows = tx.all(
        "DELETE FROM idempotency WHERE env_id = :env AND task = :task AND key_hash = :hash RETURNING run_id",
        env=env_id, task=task, hash=key_hash,
    )  # fmt: skip
    return rows[0][0] if rows else None


def answers(tx: Connection, ids: Collection[str]) -> Later[dict[str, tuple[str, str | None]]]:
    """(answer, hash of the body it was given for) by request id."""
    if not ids:
        return dict
    rows = tx.ask("SELECT id, answer, body_hash FROM requests WHERE id {in:ids}", ids=sorted(ids))
    return lambda: {row[0]: (row[1], row[2]) for row in rows()}


def remember(tx: Connection, rows: Sequence[tuple[str, str, str | None, int]]) -> None:
    """(id, answer, body hash, expires_at)

    Raises:
        Again: another transaction answered one of the requests meanwhile.
    """
    tx.insert("requests", ("id", "answer", "body_hash", "expires_at"), rows, or_ignore=True, expect=len(rows), otherwise=Again)


def prune(tx: Connection, now: int, limit: int) -> int:
    """Forget what has expired, a bounded number at a time."""
    gone = 0
    for table, key in (("requests", "id"), ("idempotency", "env_id, task, key_hash")):
        sql = f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE expires_at <= :now LIMIT :limit)"
        gone += tx.execute(sql, now=now, limit=limit)
    return gone
