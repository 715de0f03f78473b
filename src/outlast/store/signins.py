"""Who is signed in to the dashboard: sessions and one-time links, both kept by their SHA-256 only."""

from __future__ import annotations

import msgspec

from outlast.store.database import Connection
from outlast.store.keys import Role, digest

IDLE_MS = 7 * 86_400_000  # unused for a week
LIFE_MS = 30 * 86_400_000  # however much it is used
LINK_MS = 15 * 60_000  # of a one-time link
SEEN_EVERY_MS = 60_000  # so that looking at pages writes at most once a minute


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """`env_id` None: of all environments, by a one-time link; else those of the key it was made with."""

    hash: str
    env_id: int | None
    key_id: str | None
    role: Role
    created_at: int
    seen_at: int


def begin(tx: Connection, secret: str, *, env_id: int | None, key_id: str | None, role: Role, now: int) -> None:
    tx.execute(
        "INSERT INTO dashboard_sessions (hash, env_id, key_id, role, created_at, seen_at)"
        " VALUES (:hash, :env_id, :key_id, :role, :now, :now)",
        hash=digest(secret), env_id=env_id, key_id=key_id, role=role, now=now,
    )  # fmt: skip


def find(tx: Connection, secret: str, now: int) -> Session | None:
    """The session, while it lives and its key does."""
    rows = tx.all(
        "SELECT s.hash, s.env_id, s.key_id, s.role, s.created_at, s.seen_at FROM dashboard_sessions s"
        " LEFT JOIN api_keys k ON k.id = s.key_id"
        " WHERE s.hash = :hash AND s.seen_at > :idle AND s.created_at > :old AND k.revoked_at IS NULL"
        " AND (k.expires_at IS NULL OR k.expires_at > :now) AND (s.key_id IS NULL OR k.id IS NOT NULL)",
        hash=digest(secret), idle=now - IDLE_MS, old=now - LIFE_MS, now=now,
    )  # fmt: skip
    return Session(**dict(zip(Session.__struct_fields__, rows[0], strict=True))) if rows else None


def saw(tx: Connection, session: Session, now: int) -> None:
    tx.execute("UPDATE dashboard_sessions SET seen_at = :now WHERE hash = :hash", hash=session.hash, now=now)


def end(tx: Connection, session: Session, now: int) -> None:
    """Sign out; what is long over goes with it."""
    old, idle = now - LIFE_MS, now - IDLE_MS
    tx.execute(
        "DELETE FROM dashboard_sessions WHERE hash = :hash OR created_at <= :old OR seen_at <= :idle", hash=session.hash, old=old, idle=idle
    )


def add_link(tx: Connection, secret: str, expires_at: int) -> None:
    tx.execute("INSERT INTO login_links (hash, expires_at) VALUES (:hash, :expires_at)", hash=digest(secret), expires_at=expires_at)


def use_link(tx: Connection, secret: str, now: int) -> bool:
    """Whether the link was good; it is not from here on."""
    good = tx.execute("DELETE FROM login_links WHERE hash = :hash AND expires_at > :now", hash=digest(secret), now=now) == 1
    tx.execute("DELETE FROM login_links WHERE expires_at <= :now", now=now)
    return good
