"""Browsers of any origin may call the routes that take public tokens: never with cookies, so `*` gives nothing away."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
EXPOSED = (
    "x-trigger-jwt, x-trigger-jwt-claims, x-should-retry, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, retry-after,"
    " x-outlast-warning, x-stream-version, electric-offset, electric-handle, electric-schema, electric-cursor, electric-up-to-date"
)
MAX_AGE_SECONDS = 86_400


def preflight(request: Request) -> Response:
    asked = request.headers.get("access-control-request-headers", "authorization, content-type")
    headers = {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": asked,
        "access-control-max-age": str(MAX_AGE_SECONDS),
        "vary": "access-control-request-headers",
    }
    return Response(status_code=204, headers=headers)


def open_to_browsers(response: Response) -> None:
    response.headers["access-control-allow-origin"] = "*"
    response.headers["access-control-expose-headers"] = EXPOSED
