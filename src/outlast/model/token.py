"""What the engine is asked about tokens: one struct an operation."""

from __future__ import annotations

import msgspec


class CreateToken(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    timeout_at: int | None = None
    tags: str = "[]"
    idempotency_hash: str | None = None
    idempotency_key: str | None = None
    idempotency_ttl_ms: int = 0


class TokenCreated(msgspec.Struct, frozen=True, kw_only=True):
    token_id: str
    is_cached: bool = False


class CompleteToken(msgspec.Struct, frozen=True, kw_only=True):
    """`env_id` None: whoever asks has proved it by the secret of the token's address."""

    token_id: str
    env_id: int | None
    value: str | None


class TimeOutToken(msgspec.Struct, frozen=True, kw_only=True):
    token_id: str
    due_at: int
