"""How often a credential may call: a bucket of tokens for each, filled again at a steady pace. Each server counts for itself."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from outlast.server.problem import Problem

_FORM = re.compile(r"(\d{1,7})(?:\+(\d{1,7}))?/(\d{1,5})(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600}
MAX_BUCKETS = 20_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`size` calls at once, and `refill` more in each `seconds`."""

    size: int
    refill: int
    seconds: int


def parse(text: str) -> Rate | None:
    """`750+250/10s` is 750 at once and 250 more every ten seconds, `60/1m` is 60 and 60 more a minute; `off` is no limit.

    Raises:
        ValueError: none of these.
    """
    if text == "off":
        return None
    found = _FORM.fullmatch(text)
    size = int(found[1]) if found else 0
    refill = int(found[2] or size) if found else 0
    seconds = int(found[3]) * _SECONDS[found[4]] if found else 0
    if not (size and refill and seconds):
        raise ValueError(f"{text!r} is no rate: use off, 60/1m, or 750+250/10s (750 at once, 250 more every ten seconds)")
    return Rate(size, refill, seconds)


class Limiter:
    """The buckets of one rate, by credential. One that nobody used until it was full again needs no memory."""

    def __init__(self, rate: Rate, what: str = "requests") -> None:
        self.rate = rate
        self._what = what
        self._full_at: dict[str, float] = {}  # ms

    def take(self, name: str, now_ms: int, calls: int = 1) -> dict[str, str]:
        """Take from the bucket; the headers that say what is left.

        Raises:
            Problem: 429, with when to come again; 422 for more than there ever is room for.
        """
        rate = self.rate
        if calls > rate.size:
            raise Problem(422, f"{calls} at once is more than ever allowed: {rate.size} {self._what}", code="limit_exceeded")
        per_call = rate.seconds * 1_000 / rate.refill
        full_at = max(self._full_at.get(name, 0.0), now_ms)
        allowed_at = full_at + calls * per_call - rate.size * per_call
        if allowed_at > now_ms:
            raise limited(rate, self._what, math.ceil(allowed_at), now_ms)
        if len(self._full_at) >= MAX_BUCKETS:
            self._full_at = {key: at for key, at in self._full_at.items() if at > now_ms}
        self._full_at[name] = full_at = full_at + calls * per_call
        left = int(rate.size - (full_at - now_ms) / per_call)
        return _headers(rate, left, math.ceil(full_at))


def _headers(rate: Rate, left: int, reset_ms: int) -> dict[str, str]:
    return {"x-ratelimit-limit": str(rate.size), "x-ratelimit-remaining": str(left), "x-ratelimit-reset": str(reset_ms)}


def limited(rate: Rate, what: str, reset_ms: int, now_ms: int) -> Problem:
    """As Trigger.dev says it: its clients wait until the reset, in unix milliseconds."""
    seconds = max(1, math.ceil((reset_ms - now_ms) / 1_000))
    message = f"Rate limit exceeded ({rate.size} {what}). Retry in {seconds} seconds."
    extra: dict[str, Any] = {
        "title": "Rate Limit Exceeded",
        "status": 429,
        "type": "https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/429",
        "detail": message,
        "reset": reset_ms,
        "limit": rate.size,
        "remaining": 0,
        "secondsUntilReset": seconds,
    }
    headers = {**_headers(rate, 0, reset_ms), "retry-after": str(seconds), "content-type": "application/problem+json"}
    return Problem(429, message, code="rate_limited", retry=None, headers=headers, extra=extra)
