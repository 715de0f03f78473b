"""API keys: only their SHA-256 is kept, with the last four characters for people."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Literal

import msgspec

from outlast.store.database import Connection

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PATTERN = re.compile(r"tr_(dev|stg|prod|preview)_sk_[0-9A-Za-z]{24}")
_PREFIX = {"DEVELOPMENT": "dev", "STAGING": "stg", "PRODUCTION": "prod", "PREVIEW": "preview"}

Role = Literal["operator", "viewer", "trigger", "runs", "worker", "variables"]


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    env_id: int
    name: str
    last_four: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    revoked_at: int | None
    role: Role = "operator"


_NAMES = tuple(field.name for field in msgspec.structs.fields(ApiKey))
_SELECT = f"SELECT {', '.join(_NAMES)} FROM api_keys"


def generate(env_type: str) -> str:
    """A new key from the system's random source; 24 characters, about 142 bits."""
    return f"tr_{_PREFIX[env_type]}_sk_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()  # high entropy: a slow hash would add nothing


def add(
    tx: Connection, *, id: str, env_id: int, name: str, key: str, now: int, expires_at: int | None = None, role: str = "operator"
) -> None:
    tx.execute(
        "INSERT INTO api_keys (id, env_id, name, hash, last_four, created_at, expires_at, role)"
        " VALUES (:id, :env, :name, :hash, :four, :now, :expires_at, :role)",
        id=id, env=env_id, name=name, hash=digest(key), four=key[-4:], now=now, expires_at=expires_at, role=role,
    )  # fmt: skip


def find(tx: Connection, key: str) -> ApiKey | None:
    rows = tx.all(f"{_SELECT} WHERE hash = :hash", hash=digest(key))
    return _key(rows[0]) if rows else None


def read(tx: Connection, key_id: str) -> ApiKey | None:
    rows = tx.all(f"{_SELECT} WHERE id = :id", id=key_id)
    return _key(rows[0]) if rows else None


def listed(tx: Connection, env_id: int | None = None) -> list[ApiKey]:
    where = "" if env_id is None else " WHERE env_id = :env"
    params = {} if env_id is None else {"env": env_id}
    return [_key(row) for row in tx.all(f"{_SELECT}{where} ORDER BY id", **params)]


def revoke(tx: Connection, key_id: str, now: int) -> bool:
    return tx.execute("UPDATE api_keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL", id=key_id, now=now) == 1


def is_any(tx: Connection) -> bool:
    return bool(tx.all("SELECT 1 FROM api_keys LIMIT 1"))


def _key(row: tuple[object, ...]) -> ApiKey:
    return msgspec.convert(dict(zip(_NAMES, row, strict=True)), ApiKey)
