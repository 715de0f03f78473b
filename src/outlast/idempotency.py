"""Idempotency keys: the same key makes the same run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from outlast import current
from outlast.errors import InvalidValue
from outlast.model.limits import MAX_KEY_CHARS

Scope = Literal["run", "attempt", "global"]


class IdempotencyKey(str):
    """A hashed key of 64 characters. `key` and `scope` remember what it was made of, for people."""

    __slots__ = ("key", "scope")
    key: str
    scope: Scope

    def __new__(cls, hashed: str, *, key: str, scope: Scope) -> IdempotencyKey:
        made = super().__new__(cls, hashed)
        made.key = key
        made.scope = scope
        return made


def idempotency_key(key: str | Sequence[str], *, scope: Scope = "run") -> IdempotencyKey:
    """A key that counts within this run, this attempt, or everywhere. Outside a task all three count everywhere.

    Raises:
        InvalidValue: an empty key, or one of more than 2,048 characters.

    Example:
        >>> idempotency_key(["welcome", "ada"], scope="global").key
        'welcome-ada'
    """
    parts = [key] if isinstance(key, str) else list(key)
    text = "-".join(parts)
    if not text or len(text) > MAX_KEY_CHARS:
        raise InvalidValue(f"an idempotency key has 1 to {MAX_KEY_CHARS} characters, this one {len(text)}")
    attempt = current.attempt.get()
    if attempt is not None and scope != "global":
        parts.append(attempt.ctx.run.id)
        if scope == "attempt":
            parts.append(str(attempt.ctx.attempt.number))
    hashed = hashlib.sha256("-".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return IdempotencyKey(hashed, key=text, scope=scope)


def hashed(key: str | Sequence[str]) -> IdempotencyKey:
    """A raw key counts within the run inside a task, and everywhere outside."""
    return key if isinstance(key, IdempotencyKey) else idempotency_key(key, scope="run" if current.attempt.get() else "global")
