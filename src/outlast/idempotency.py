"""Idempotency keys: the same key makes the same run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from outlast import current
from outlast.errors import InvalidValue
from outlast.model.limits import MAX_KEY_CHARS
from outlast.pending import Pending

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


def reset(
    task: str, key: str | Sequence[str], *, scope: Scope | None = None, parent_run_id: str | None = None, attempt_number: int | None = None
) -> Pending[str]:
    """Give a key back, so that the next trigger of the task with it makes a new run. Gives the key as it is stored.

    An object of `idempotency_key` says its own scope. A raw key was global outside of tasks; of one that was used inside, say
    the scope and the run, or the attempt, it counted in.

    Raises:
        InvalidValue: a scope without the ids it needs.
        ApiError: 404, no run of the task has the key.
    """
    from outlast.client import requests
    from outlast.client.calls import call

    return call("idempotency.reset(…)", requests.reset_key(task, str(_stored(key, scope, parent_run_id, attempt_number))))


def _stored(key: str | Sequence[str], scope: Scope | None, run_id: str | None, attempt: int | None) -> str:
    if isinstance(key, IdempotencyKey):
        return key
    parts = [key] if isinstance(key, str) else list(key)
    if scope in ("run", "attempt"):
        if run_id is None or (scope == "attempt" and attempt is None):
            raise InvalidValue(f"scope={scope!r} needs parent_run_id{' and attempt_number' if scope == 'attempt' else ''}")
        parts += [run_id] if scope == "run" else [run_id, str(attempt)]
    return hashlib.sha256("-".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def hashed(key: str | Sequence[str]) -> IdempotencyKey:
    """A raw key counts within the run inside a task, and everywhere outside."""
    return key if isinstance(key, IdempotencyKey) else idempotency_key(key, scope="run" if current.attempt.get() else "global")
