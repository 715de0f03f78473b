"""API keys: only their SHA-256 is kept, with the last four characters for people."""

from __future__ import annotations

import hashlib
import re
import secrets

import msgspec

from outlast.store.database import Connection

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PATTERN = re.compile(r"tr_(dev|stg|prod|preview)_sk_[0-9A-Za-z]{24}")
_PREFIX = {"DEVELOPMENT": "dev", "STAGING": "stg", "PRODUCTION": "prod", "PREVIEW": "preview"}


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    env_id: int
    name: str
    last_four: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None


def generate(env_type: str) -> str:
    """A new key from the system's random source; 24 characters, about 142 bits."""
    return f"tr_{_PREFIX[env_type]}_sk_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()  # high entropy: a slow hash would add nothing


def add(tx: Connection, *, id: str, env_id: int, name: str, key: str, now: int, expires_at: int | None = None) -> None:
    tx.execute(
        "INSERT INTO api_keys (id, env_id, name, hash, last_four, created_at, expires_at)"
        " VALUES (:id, :env, :name, :hash, :four, :now, :expires_at)",
        id=id, env=env_id, name=name, hash=digest(key), four=key[-4:], now=now, expires_at=expires_at,
    )  # fmt: skip


def find(tx: Connection, key: str) -> ApiKey | None:
    rows = tx.all(
        "SELECT id, env_id, name, last_four, created_at, expires_at, revoked_at FROM api_keys WHERE hash = :hash", hash=digest(key)
    )
    if not rows:
        return None
    return _key(rows[0])


def listed(tx: Connection, env_id: int | None = None) -> list[ApiKey]:
    where = "" if env_id is None else " WHERE env_id = :env"
    params = {} if env_id is None else {"env": env_id}
    rows = tx.all("SELECT id, env_id, name, last_four, created_at, expires_at, revoked_at FROM api_keys" + where + " ORDER BY id", **params)
    return [_key(row) for row in rows]


def revoke(tx: Connection, key_id: str, now: int) -> bool:
    return tx.execute("UPDATE api_keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL", id=key_id, now=now) == 1


def _key(row: tuple[object, ...]) -> ApiKey:
    names = ("id", "env_id", "name", "last_four", "created_at", "expires_at", "revoked_at")
    return msgspec.convert(dict(zip(names, row, strict=True)), ApiKey)
