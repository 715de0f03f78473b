"""Tokens: what runs wait for and others complete."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from outlast.store.database import Connection, Later, Row
from outlast.store.search import literal

TokenStatus = Literal["WAITING", "COMPLETED", "TIMED_OUT"]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """`value` is the JSON it was completed with. Tags are a JSON list."""

    id: str
    env_id: int
    status: TokenStatus = "WAITING"
    value: str | None = None
    tags: str = "[]"
    idempotency_key: str | None = None
    idempotency_expires_at: int | None = None
    timeout_at: int | None = None
    created_at: int
    completed_at: int | None = None


_NAMES = tuple(field.name for field in msgspec.structs.fields(Token))
_SELECT = ", ".join(_NAMES)


def lock(tx: Connection, ids: Collection[str]) -> Later[dict[str, Token]]:
    if not ids:
        return dict
    rows = tx.ask(f"SELECT {_SELECT} FROM waitpoints WHERE id {{in:ids}} ORDER BY id {{for_update}}", ids=sorted(ids))
    return lambda: {row[0]: _token(row) for row in rows()}


def read(tx: Connection, env_id: int, id: str) -> Token | None:
    rows = tx.all(f"SELECT {_SELECT} FROM waitpoints WHERE id = :id AND env_id = :env", id=id, env=env_id)
    return _token(rows[0]) if rows else None


class TokenFilter(msgspec.Struct, frozen=True, kw_only=True):
    """All given conditions must hold; of the tags one is enough."""

    env_id: int
    after: str | None = None  # older than this token
    before: str | None = None  # newer than this token
    status: TokenStatus | None = None
    tags: Collection[str] = ()
    key: str | None = None
    created_from: int | None = None
    created_to: int | None = None


def page(tx: Connection, f: TokenFilter, limit: int) -> list[Token]:
    """Up to `limit` tokens, newest first (those nearest before a token when looking before one)."""
    conditions = {
        "env_id = :env": ("env", f.env_id),
        "id < :after": ("after", f.after),
        "id > :before": ("before", f.before),
        "status = :status": ("status", f.status),
        "idempotency_key = :key": ("key", f.key),
        "created_at >= :from": ("from", f.created_from),
        "created_at <= :to": ("to", f.created_to),
    }
    given = {sql: (name, value) for sql, (name, value) in conditions.items() if value is not None}
    params: dict[str, object] = dict(given.values())
    likes: list[str] = []
    for n, tag in enumerate(f.tags):
        likes.append(f"tags LIKE :tag{n} ESCAPE '!'")
        params[f"tag{n}"] = f"%{literal(msgspec.json.encode(tag).decode())}%"
    where = " AND ".join([*given, *([f"({' OR '.join(likes)})"] if likes else [])])
    order = "ASC" if f.before is not None else "DESC"
    rows = tx.all(f"SELECT {_SELECT} FROM waitpoints WHERE {where} ORDER BY id {order} LIMIT :limit", **params, limit=limit)
    found = [_token(row) for row in rows]
    return found if f.before is None else found[::-1]


def insert(tx: Connection, tokens: Collection[Token]) -> None:
    tx.insert("waitpoints", _NAMES, [msgspec.structs.astuple(token) for token in tokens])


def save(tx: Connection, tokens: Collection[Token]) -> None:
    rows = [(t.status, t.value, t.completed_at, t.id) for t in sorted(tokens, key=lambda t: t.id)]
    tx.update("waitpoints", ("status", "value", "completed_at"), ["id"], rows)


def _token(row: Row) -> Token:
    return Token(**dict(zip(_NAMES, row, strict=True)))


def prune(tx: Connection, before: int, after: str, limit: int) -> tuple[int, str]:
    """Delete tokens that were completed, or ran out of time, before that time and hold no key any more; as `runs.prune`."""
    rows = tx.all(
        "SELECT id, completed_at, created_at, idempotency_expires_at FROM waitpoints WHERE id > :after ORDER BY id LIMIT :limit",
        after=after,
        limit=limit,
    )
    following = rows[-1][0] if len(rows) == limit and rows[-1][2] < before else ""
    ids = [row[0] for row in rows if row[1] is not None and row[1] < before and (row[3] is None or row[3] < before)]
    if ids:
        tx.execute("DELETE FROM waitpoints WHERE id {in:ids} AND status <> 'WAITING'", ids=ids)
    return len(ids), following
