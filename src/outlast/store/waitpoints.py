"""Tokens: what runs wait for and others complete."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from outlast.store.database import Connection, Later, Row

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


def page(
    tx: Connection, env_id: int, *, status: str | None, tag: str | None, key: str | None, after: str | None, limit: int
) -> list[Token]:
    """Newest first, one more than `limit` if there are more."""
    rows = tx.all(
        f"SELECT {_SELECT} FROM waitpoints WHERE env_id = :env AND (CAST(:after AS TEXT) IS NULL OR id < :after)"
        " AND (CAST(:status AS TEXT) IS NULL OR status = :status) AND (CAST(:key AS TEXT) IS NULL OR idempotency_key = :key)"
        " AND (CAST(:tag AS TEXT) IS NULL OR tags LIKE :tag) ORDER BY id DESC LIMIT :limit",
        env=env_id, after=after, status=status, key=key, tag=None if tag is None else f"%{msgspec.json.encode(tag).decode()}%",
        limit=limit + 1,
    )  # fmt: skip
    return [_token(row) for row in rows]


def insert(tx: Connection, tokens: Collection[Token]) -> None:
    tx.insert("waitpoints", _NAMES, [msgspec.structs.astuple(token) for token in tokens])


def save(tx: Connection, tokens: Collection[Token]) -> None:
    rows = [(t.status, t.value, t.completed_at, t.id) for t in sorted(tokens, key=lambda t: t.id)]
    tx.update("waitpoints", ("status", "value", "completed_at"), ["id"], rows)


def _token(row: Row) -> Token:
    return Token(**dict(zip(_NAMES, row, strict=True)))
