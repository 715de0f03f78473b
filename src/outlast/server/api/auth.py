"""Public tokens by request: for the official client, which never signs with a key of ours, and for anyone's own browser code."""

from __future__ import annotations

import re
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from outlast.server import body as bodies
from outlast.server import public_tokens, scopes
from outlast.server.context import answer, of
from outlast.server.problem import Problem, invalid

JWT_SECONDS = 3_600  # of POST /auth/jwt
_SPAN = re.compile(r"\+? ?(\d{1,9}|\d{1,9}\.\d{1,9}) ?([a-z]+)(?: from now)?", re.IGNORECASE)
_UNITS = {
    "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "h": 3_600, "hr": 3_600, "hrs": 3_600, "hour": 3_600, "hours": 3_600, "d": 86_400, "day": 86_400, "days": 86_400,
    "w": 604_800, "week": 604_800, "weeks": 604_800, "y": 31_557_600, "yr": 31_557_600, "yrs": 31_557_600,
    "year": 31_557_600, "years": 31_557_600,
}  # fmt: skip


async def claims(request: Request) -> Response:
    """POST /api/v1/auth/jwt/claims"""
    caller = await of(request).caller(request)
    return answer({"sub": str(caller.env.id), "pub": True})


async def public_token(request: Request) -> Response:
    """POST /api/v1/auth/public-tokens"""
    body = await bodies.read_object(request)
    wanted = _scopes(body.get("scopes"), "scopes")
    if not wanted:
        raise invalid("scopes must name at least one right: a token without any is of no use", "scopes")
    once = body.get("oneTimeUse", False)
    if not isinstance(once, bool):
        raise invalid("oneTimeUse must be true or false", "oneTimeUse")
    return await _mint(request, wanted, body.get("expirationTime"), public_tokens.DEFAULT_SECONDS, once=once, skip=_skip(body))


async def jwt(request: Request) -> Response:
    """POST /api/v1/auth/jwt"""
    body = await bodies.read_object(request)
    found: Any = body.get("claims", {})
    if not isinstance(found, dict):
        raise invalid("claims must be an object", "claims")
    wanted = _scopes(cast("dict[str, Any]", found).get("scopes", []), "claims.scopes")
    return await _mint(request, wanted, body.get("expirationTime"), JWT_SECONDS)


async def _mint(
    request: Request, wanted: list[str], expires: Any, default: int, *, once: bool = False, skip: list[str] | None = None
) -> Response:
    context = of(request)
    caller = await context.caller(request)
    now = context.engine.clock.now()
    seconds = min(_seconds(expires, now // 1_000, default), context.max_token_seconds)
    token = public_tokens.mint(caller.env, caller.key_id, wanted, now, seconds, once=once, skip_columns=skip)
    return answer({"token": token})


def _scopes(found: Any, where: str) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(scope, str) for scope in cast("list[Any]", found)):
        raise invalid("scopes must be a list of texts", where)
    wanted = cast("list[str]", found)
    if len(wanted) > scopes.MAX_SCOPES:
        raise invalid(f"a token has at most {scopes.MAX_SCOPES} scopes", where)
    if (wrong := scopes.unknown(wanted)) is not None:
        raise Problem(
            422, f"scope {wrong[:100]!r} is unknown: use action:type:id, as in read:runs:run_1", code="validation_error", param=where
        )
    return wanted


def _skip(body: dict[str, Any]) -> list[str] | None:
    realtime: Any = body.get("realtime") or {}
    skip: Any = cast("dict[str, Any]", realtime).get("skipColumns") if isinstance(realtime, dict) else None
    if skip is not None and (not isinstance(skip, list) or not all(isinstance(name, str) for name in cast("list[Any]", skip))):
        raise invalid("realtime.skipColumns must be a list of texts", "realtime.skipColumns")
    return cast("list[str] | None", skip)


def _seconds(value: Any, now: int, default: int) -> int:
    """How long a token shall live: a span as jose writes it ("15m", "24hr", "2 days"), or the unix second it ends."""
    if value is None:
        return default
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value - now
    elif isinstance(value, str) and (span := _SPAN.fullmatch(value.strip())) and span[2].lower() in _UNITS:
        seconds = float(span[1]) * _UNITS[span[2].lower()]
    else:
        raise invalid('expirationTime must be a span such as "15m", "1h" or "2 days", or unix seconds', "expirationTime")
    if not 1 <= seconds < 1e12:
        raise invalid("expirationTime must lie in the future", "expirationTime")
    return int(seconds)
