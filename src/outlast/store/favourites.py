"""Favourites: names for sets of filters of the list of runs."""

from __future__ import annotations

from outlast.store.database import Connection

MAX_FAVOURITES = 50  # of an environment: a menu, not an archive


def listed(tx: Connection, env_id: int) -> dict[str, str]:
    """name → query, by name"""
    rows = tx.all("SELECT name, query FROM favourites WHERE env_id = :env ORDER BY name LIMIT :limit", env=env_id, limit=MAX_FAVOURITES)
    return {row[0]: row[1] for row in rows}


def keep(tx: Connection, env_id: int, name: str, query: str, *, by: str, now: int) -> bool:
    """A name that is there already gets the new query. False: there are too many."""
    known = listed(tx, env_id)
    if name not in known and len(known) >= MAX_FAVOURITES:
        return False
    tx.execute(
        "INSERT INTO favourites (env_id, name, query, made_by, created_at) VALUES (:env, :name, :query, :by, :now)"
        " ON CONFLICT (env_id, name) DO UPDATE SET query = excluded.query, made_by = excluded.made_by, created_at = excluded.created_at",
        env=env_id, name=name, query=query, by=by, now=now,
    )  # fmt: skip
    return True


def forget(tx: Connection, env_id: int, name: str) -> None:
    tx.execute("DELETE FROM favourites WHERE env_id = :env AND name = :name", env=env_id, name=name)
