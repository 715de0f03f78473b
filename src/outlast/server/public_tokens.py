"""Public tokens: JWTs for browsers, signed with a secret of the environment. Only one-time use leaves a trace in the database."""

from __future__ import annotations

import hashlib
import hmac
import random
from functools import cache
from typing import Any

import jwt
import msgspec
from jwt.utils import base64url_encode

from outlast.server import scopes as grammar
from outlast.server.problem import Problem
from outlast.store.catalog import Environment

ISSUER = "https://id.trigger.dev"
AUDIENCE = "https://api.trigger.dev"
DEFAULT_SECONDS = 900  # made by hand
HANDLE_SECONDS = 3_600  # of runs and batches
MAX_SECONDS = 86_400  # a longer request is shortened to this, so that clients do not fail
LIMIT_SECONDS = 30 * 86_400  # what the maximum may be raised to; older tokens are nobody's
LEEWAY_SECONDS = 10  # between our servers' clocks
MAX_TOKEN_CHARS = 16_384

EXPIRED = "Public Access Token has expired. Make a new one: tokens live 15 minutes unless asked for longer."
INVALID = "Public Access Token is invalid"


class PublicToken(msgspec.Struct, frozen=True, kw_only=True):
    """A verified token. `id` names it; `once` is that name for a one-time token, which is burnt by the run it makes."""

    id: str
    scopes: list[str] = []
    expires_at: int  # unix seconds
    once: str | None = None
    skip_columns: list[str] = []


class _Realtime(msgspec.Struct, rename="camel"):
    skip_columns: list[str] = []


class _Claims(msgspec.Struct):
    sub: str
    exp: float
    iat: float
    pub: bool
    nbf: float = 0
    scopes: list[str] = []
    otu: bool = False
    realtime: _Realtime | None = None


def looks_like_one(text: str) -> bool:
    return text.count(".") == 2


def subject(token: str) -> tuple[int, str]:
    """(environment, key id) a token says it is of. Nothing of it is proved yet.

    Raises:
        Problem: 401.
    """
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
        env_id, kid = claims["sub"], header["kid"]
        # every other header (jku, x5u, …) is ignored: nothing is ever fetched or read by what a token says
        if header.get("alg") != "HS256" or claims.get("pub") is not True or not str(env_id).isdecimal() or len(str(env_id)) > 9:
            raise ValueError
        return int(env_id), str(kid)
    except (jwt.PyJWTError, KeyError, ValueError, RecursionError) as error:
        raise refused() from error


def verify(token: str, env: Environment, now_ms: int, *, max_seconds: int = LIMIT_SECONDS) -> PublicToken:
    """The token, if the environment signed it and its time has come and not passed.

    Raises:
        Problem: 401; only a token we signed is told that it has expired.
    """
    try:
        decoded = jwt.decode(
            token, env.signing_secret, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER,
            options={"require": ["exp", "iat", "sub", "iss", "aud"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )  # fmt: skip
        claims = msgspec.convert(decoded, _Claims)
    except (jwt.PyJWTError, msgspec.ValidationError, RecursionError) as error:
        raise refused() from error
    now = now_ms / 1_000  # of our clock, which tests move
    if max(claims.nbf, claims.iat) > now + LEEWAY_SECONDS or claims.exp - claims.iat > max_seconds:
        raise refused()
    if claims.exp <= now - LEEWAY_SECONDS:
        raise refused(EXPIRED)
    if claims.iat < env.tokens_not_before or grammar.unknown(claims.scopes) is not None:
        raise refused()
    id_ = hashlib.sha256(token.encode()).hexdigest()
    return PublicToken(
        id=id_,
        scopes=claims.scopes,
        expires_at=int(claims.exp),
        once=id_ if claims.otu else None,
        skip_columns=claims.realtime.skip_columns if claims.realtime else [],
    )


def refused(message: str = INVALID) -> Problem:
    return Problem(401, message, headers={"www-authenticate": "Bearer"})


def mint(
    env: Environment,
    key_id: str,
    scopes: list[str],
    now_ms: int,
    seconds: int,
    *,
    once: bool = False,
    skip_columns: list[str] | None = None,
) -> str:
    """A token with these rights. It is refused when its key is revoked."""
    now = now_ms // 1_000
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(env.id),
        "pub": True,
        "scopes": scopes,
        "iat": now,
        "exp": now + seconds,
        "jti": f"{random.getrandbits(96):x}",  # it tells tokens apart; nobody needs to guess it
    }
    if once:
        claims["otu"] = True
    if skip_columns:
        claims["realtime"] = {"skipColumns": skip_columns}
    return _signed(claims, env.signing_secret, key_id)


def headers(env: Environment, key_id: str, scopes: list[str], now_ms: int, seconds: int = HANDLE_SECONDS) -> dict[str, str]:
    """The public token of a handle, and the claims an old client signs by itself."""
    return {
        "x-trigger-jwt": mint(env, key_id, scopes, now_ms, seconds),
        "x-trigger-jwt-claims": '{"sub":"' + str(env.id) + '","pub":true}',
    }


@cache
def _prepared(secret: str, key_id: str) -> tuple[bytes, bytes]:
    """What all tokens of a key share: the secret, and the first part."""
    header = {"alg": "HS256", "kid": key_id, "typ": "JWT"}
    return secret.encode(), base64url_encode(msgspec.json.encode(header))


def _signed(claims: dict[str, Any], secret: str, key_id: str) -> str:
    """Every trigger signs one: a tenth of the time of `jwt.encode`."""
    key, header = _prepared(secret, key_id)
    text = header + b"." + base64url_encode(msgspec.json.encode(claims))
    return (text + b"." + base64url_encode(hmac.digest(key, text, "sha256"))).decode()
