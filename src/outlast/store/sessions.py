"""Worker sessions: who holds slots, and until when its lease runs."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from outlast.store.database import Connection, Later, Row

LEASES = "leases"
_COLUMNS = "id, env_id, worker, boot_id, version, server_id, lease_until, state"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    env_id: int
    worker: str
    boot_id: str
    version: str
    server_id: str
    lease_until: int
    state: str  # open, closed


def insert(tx: Connection, session: Session, now: int) -> None:
    tx.execute(
        f"INSERT INTO sessions ({_COLUMNS}, created_at)"
        " VALUES (:id, :env_id, :worker, :boot_id, :version, :server_id, :lease_until, :state, :now)",
        **msgspec.structs.asdict(session), now=now,
    )  # fmt: skip


def lock(tx: Connection, ids: Collection[str]) -> Later[dict[str, Session]]:
    if not ids:
        return dict
    rows = tx.ask(f"SELECT {_COLUMNS} FROM sessions WHERE id {{in:ids}} ORDER BY id {{for_update}}", ids=sorted(ids))
    return lambda: {row[0]: _session(row) for row in rows()}


def save(tx: Connection, sessions: Collection[Session]) -> None:
    tx.many(
        "UPDATE sessions SET server_id = ?, lease_until = ?, state = ? WHERE id = ?",
        [(s.server_id, s.lease_until, s.state, s.id) for s in sorted(sessions, key=lambda s: s.id)],
    )


def lapsed(tx: Connection, before: int, limit: int) -> list[tuple[str, int]]:
    """(session, environment)"""
    return tx.all(
        "SELECT id, env_id FROM sessions WHERE state = 'open' AND lease_until < :before ORDER BY lease_until LIMIT :limit",
        before=before,
        limit=limit,
    )


def looked_at_leases(tx: Connection, now: int) -> int:
    """For how long no server had, in milliseconds: none lived, or none had the database, and nobody could renew a lease."""
    tx.insert("upkeep", ("duty", "done_at"), [(LEASES, now)], or_ignore=True)
    [(before,)] = tx.all("SELECT done_at FROM upkeep WHERE duty = :duty {for_update}", duty=LEASES)
    tx.execute("UPDATE upkeep SET done_at = :now WHERE duty = :duty", now=now, duty=LEASES)
    return now - before


def give_back_time(tx: Connection, now: int, lease_ms: int, gone: int) -> None:
    """Leases that were not over `gone` milliseconds ago run for as much longer, but for no longer than a new one."""
    tx.all("SELECT id FROM sessions WHERE state = 'open' ORDER BY id {for_update}")
    tx.execute(
        "UPDATE sessions SET lease_until = {least}(lease_until + :gone, :longest)"
        " WHERE state = 'open' AND lease_until >= :began AND lease_until < :longest",
        gone=gone, longest=now + lease_ms, began=now - gone,
    )  # fmt: skip


def is_any_beyond(tx: Connection, longest: int) -> bool:
    """Whether a lease ends later than one given now could: the clock that gave it has been set back since."""
    return bool(tx.all("SELECT 1 FROM sessions WHERE state = 'open' AND lease_until > :longest LIMIT 1", longest=longest))


def renew_all(tx: Connection, until: int) -> None:
    """When a clock was set, nobody knows which leases were over: who lives renews again, and who is dead is found as soon as ever."""
    tx.execute("UPDATE sessions SET lease_until = :until WHERE state = 'open'", until=until)


def open_among(tx: Connection, ids: Collection[str]) -> Later[set[str]]:
    """Those of them whose writes count."""
    rows = tx.ask("SELECT id FROM sessions WHERE id {in:ids} AND state = 'open'", ids=sorted(ids))
    return lambda: {row[0] for row in rows()}


def drain(tx: Connection, env_id: int, id: str) -> bool:
    """Ask the worker of an open session to leave."""
    sql = "UPDATE sessions SET draining = 1 WHERE id = :id AND env_id = :env AND state = 'open'"
    return tx.execute(sql, id=id, env=env_id) == 1


def draining(tx: Connection, ids: Collection[str]) -> set[str]:
    """Those of them whose worker was asked to leave."""
    return {row[0] for row in tx.all("SELECT id FROM sessions WHERE id {in:ids} AND draining = 1", ids=sorted(ids))}


def closed_with_slots(tx: Connection, limit: int) -> list[str]:
    """Closed sessions whose slots are not all given back yet."""
    rows = tx.all(
        "SELECT DISTINCT s.session_id FROM slots s JOIN sessions x ON x.id = s.session_id WHERE x.state = 'closed' LIMIT :limit",
        limit=limit,
    )
    return [row[0] for row in rows]


def open_ones(tx: Connection, env_id: int) -> list[Session]:
    rows = tx.all(f"SELECT {_COLUMNS} FROM sessions WHERE env_id = :env AND state = 'open' ORDER BY id", env=env_id)
    return [_session(row) for row in rows]


def prune(tx: Connection, before: int) -> int:
    return tx.execute(
        "DELETE FROM sessions WHERE state = 'closed' AND lease_until < :before"
        " AND NOT EXISTS (SELECT 1 FROM slots WHERE slots.session_id = sessions.id)",
        before=before,
    )


def _session(row: Row) -> Session:
    id_, env_id, worker, boot_id, version, server_id, lease_until, state = row
    return Session(
        id=id_, env_id=env_id, worker=worker, boot_id=boot_id, version=version, server_id=server_id, lease_until=lease_until, state=state
    )  # fmt: skip
