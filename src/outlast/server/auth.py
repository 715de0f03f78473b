"""Who asks: API keys by their hash; and the public tokens we sign for whoever triggered."""

from __future__ import annotations

import hmac
import random
import time
from functools import cache
from typing import Any

import msgspec
from jwt.utils import base64url_encode
from starlette.requests import Request

from outlast.engine.engine import Engine
from outlast.server.problem import unauthorized
from outlast.store import catalog, keys
from outlast.store.catalog import Environment

KEY_CACHE_SECONDS = 30.0  # a revoked key is refused after this at the latest
HANDLE_SECONDS = 3_600
ISSUER = "https://id.trigger.dev"
AUDIENCE = "https://api.trigger.dev"
MAX_HEADER_CHARS = 4_096


class Caller(msgspec.Struct, frozen=True):
    """An authenticated request: its environment, and the key it came with."""

    env: Environment
    key_id: str
    key_name: str


class Auth:
    """Looks keys up, and keeps what it found for half a minute."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[float, Caller, int | None]] = {}

    async def caller(self, request: Request) -> Caller:
        """The caller of a request.

        Raises:
            Problem: 401, the same whatever is wrong.
        """
        header = request.headers.get("authorization", "")
        scheme, _, key = header.partition(" ")
        if scheme != "Bearer" or len(header) > MAX_HEADER_CHARS or not keys.PATTERN.fullmatch(key):
            raise unauthorized()
        found = self._known.get(key)
        if found is None or found[0] < time.monotonic():
            found = await self._look_up(key)
        if found is None or (found[2] is not None and found[2] <= self._engine.clock.now()):
            raise unauthorized()
        return found[1]

    async def _look_up(self, key: str) -> tuple[float, Caller, int | None] | None:
        row = await self._engine.read(lambda tx: keys.find(tx, key))
        if row is None or row.revoked_at is not None:
            self._known.pop(key, None)
            return None
        env = await self._engine.read(lambda tx: catalog.environment(tx, row.env_id))
        if len(self._known) > 10_000:
            self._known.clear()
        entry = (time.monotonic() + KEY_CACHE_SECONDS, Caller(env, row.id, row.name), row.expires_at)
        self._known[key] = entry
        return entry


def token_headers(env: Environment, scopes: list[str], now_ms: int, seconds: int = HANDLE_SECONDS) -> dict[str, str]:
    """The public token of a handle, and the claims an old client signs by itself."""
    now = now_ms // 1_000
    subject = str(env.id)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "pub": True,
        "scopes": scopes,
        "iat": now,
        "exp": now + seconds,
        "jti": f"{random.getrandbits(96):x}",  # it tells tokens apart; nobody needs to guess it
    }
    token = _signed(claims, env.signing_secret, f"env-{subject}")
    return {
        "x-trigger-jwt": token,
        "x-trigger-jwt-claims": '{"sub":"' + subject + '","pub":true}',
        "access-control-expose-headers": "x-trigger-jwt, x-trigger-jwt-claims",
    }


@cache
def _prepared(secret: str, key_id: str) -> tuple[bytes, bytes]:
    """What all tokens of an environment share: the key, and the first part."""
    header = {"alg": "HS256", "kid": key_id, "typ": "JWT"}
    return secret.encode(), base64url_encode(msgspec.json.encode(header))


def _signed(claims: dict[str, Any], secret: str, key_id: str) -> str:
    """Every trigger signs one: a tenth of the time of `jwt.encode`."""
    key, header = _prepared(secret, key_id)
    text = header + b"." + base64url_encode(msgspec.json.encode(claims))
    return (text + b"." + base64url_encode(hmac.digest(key, text, "sha256"))).decode()
