"""Versions as deployments: newest first, a page at a time."""

from __future__ import annotations

import msgspec

from outlast.store.database import Connection, Row


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    digest: str
    python: str
    status: str
    created_at: int


_NAMES = tuple(field.name for field in msgspec.structs.fields(Deployment))
_SELECT = f"SELECT {', '.join(_NAMES)} FROM deployments WHERE env_id = :env"


def read(tx: Connection, env_id: int, version: str) -> Deployment | None:
    rows = tx.all(f"{_SELECT} AND version = :version", env=env_id, version=version)
    return _of(rows[0]) if rows else None


def page(
    tx: Connection,
    env_id: int,
    *,
    status: str | None,
    start: int | None,
    end: int | None,
    after: str | None,
    before: str | None,
    limit: int,
) -> list[Deployment]:
    """Older than the version `after`, or newer than `before`; one more than `limit` if there are more."""
    cursor = read(tx, env_id, after or before or "")
    if (after or before) and cursor is None:
        return []
    sql, params = _SELECT, dict[str, object](env=env_id, limit=limit + 1)
    if cursor is not None:
        sign = "<" if after else ">"
        sql += f" AND (created_at {sign} :at OR (created_at = :at AND version {sign} :version))"
        params |= {"at": cursor.created_at, "version": cursor.version}
    for condition, name, value in (
        ("status = :status", "status", status),
        ("created_at >= :start", "start", start),
        ("created_at <= :end", "end", end),
    ):
        if value is not None:
            sql += f" AND {condition}"
            params[name] = value
    order = "ASC" if before else "DESC"
    return [_of(row) for row in tx.all(f"{sql} ORDER BY created_at {order}, version {order} LIMIT :limit", **params)]


def _of(row: Row) -> Deployment:
    return Deployment(**dict(zip(_NAMES, row, strict=True)))
