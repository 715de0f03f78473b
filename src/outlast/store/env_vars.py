"""Environment variables, sealed: nothing here can read a value."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from outlast.store.database import Connection


class EnvVar(msgspec.Struct, frozen=True):
    name: str
    sealed: str
    is_secret: bool
    updated_at: int


def listed(tx: Connection, env_id: int) -> list[EnvVar]:
    rows = tx.all("SELECT name, value, is_secret, updated_at FROM env_vars WHERE env_id = :env ORDER BY name", env=env_id)
    return [EnvVar(row[0], row[1], bool(row[2]), row[3]) for row in rows]


def one(tx: Connection, env_id: int, name: str) -> EnvVar | None:
    sql = "SELECT name, value, is_secret, updated_at FROM env_vars WHERE env_id = :env AND name = :name"
    rows = tx.all(sql, env=env_id, name=name)
    return EnvVar(rows[0][0], rows[0][1], bool(rows[0][2]), rows[0][3]) if rows else None


def put(tx: Connection, env_id: int, variables: Sequence[EnvVar], *, override: bool = True) -> None:
    """A variable that is a secret stays one."""
    then = (
        "DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at,"
        " is_secret = CASE WHEN env_vars.is_secret = 1 THEN 1 ELSE excluded.is_secret END"
        if override
        else "DO NOTHING"
    )
    tx.many(
        "INSERT INTO env_vars (env_id, name, value, is_secret, updated_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (env_id, name) " + then,
        [(env_id, v.name, v.sealed, int(v.is_secret), v.updated_at) for v in variables],
    )


def delete(tx: Connection, env_id: int, name: str) -> bool:
    return tx.execute("DELETE FROM env_vars WHERE env_id = :env AND name = :name", env=env_id, name=name) == 1


def count(tx: Connection, env_id: int) -> int:
    return tx.all("SELECT count(*) FROM env_vars WHERE env_id = :env", env=env_id)[0][0]


def all_sealed(tx: Connection) -> list[tuple[int, str, str]]:
    """(environment, name, sealed value) of all environments, held until this transaction ends."""
    rows = tx.all("SELECT env_id, name, value FROM env_vars ORDER BY env_id, name {for_update}")
    return [(row[0], row[1], row[2]) for row in rows]


def reseal(tx: Connection, env_id: int, name: str, sealed: str) -> None:
    tx.execute("UPDATE env_vars SET value = :sealed WHERE env_id = :env AND name = :name", sealed=sealed, env=env_id, name=name)


def any_sealed(tx: Connection) -> str | None:
    """A sealed value of whichever environment: it tells with which key."""
    rows = tx.all("SELECT value FROM env_vars LIMIT 1")
    return rows[0][0] if rows else None
