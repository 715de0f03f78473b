"""`webhooks`: verify what an Outlast server sent."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from outlast.errors import InvalidValue

TOLERANCE_SECONDS = 300


def construct_event(
    body: bytes, headers: Mapping[str, str], secret: str, *, tolerance: float = TOLERANCE_SECONDS, now: float | None = None
) -> dict[str, Any]:
    """The event of a webhook, once its signature and its time are known to be right. An event may come twice: look at its `id`.

    Raises:
        InvalidValue: it was not signed with this secret, was changed, or is older than `tolerance` seconds.

    Example:
        >>> event = construct_event(request.body, request.headers, secret)  # doctest: +SKIP
    """
    found = {name.lower(): value for name, value in headers.items()}
    seconds, given = found.get("x-outlast-timestamp", ""), found.get("x-outlast-signature", "")
    if not seconds.isascii() or not seconds.isdecimal() or abs((time.time() if now is None else now) - int(seconds[:15])) > tolerance:
        raise InvalidValue("the webhook has no time, or one that is too far from now")
    expected = "v1=" + hmac.digest(secret.encode(), seconds.encode() + b"." + body, hashlib.sha256).hex()
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise InvalidValue("the webhook's signature is not of this secret and body")
    event: Any = json.loads(body)
    if not isinstance(event, dict):
        raise InvalidValue("the webhook holds no event")
    return event  # pyright: ignore[reportUnknownVariableType]
