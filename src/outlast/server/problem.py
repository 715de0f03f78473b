"""Errors as the wire has them: a text on Trigger.dev's routes, an object on our own."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from outlast.model.refusal import Refusal

OWN = "/api/outlast/"


class Problem(Exception):
    """A request that is answered with an error. `retry` None leaves it to the client's own rules."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        param: str | None = None,
        details: list[dict[str, Any]] | None = None,
        retry: bool | None = False,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _CODES.get(status, "error")
        self.param = param
        self.details = details
        self.retry = retry
        self.headers = headers or {}
        self.extra = extra or {}  # beside the error, on Trigger.dev's routes


_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "validation_error",
    503: "unavailable",
}
_STATUS = {
    "not_found": 404,
    "task_not_found": 404,
    "stale_epoch": 409,
    "result_conflict": 409,
    "above_maximum": 400,
    "not_overridden": 400,
    "not_delayed": 422,
    "batch_sealed": 409,
    "too_large": 413,
}


def invalid(message: str, param: str | None = None, *, status: int = 400) -> Problem:
    """A field whose shape, type or range is wrong."""
    path = [] if param is None else param.split(".")
    return Problem(status, message, code="validation_error", param=param, details=[{"code": "custom", "message": message, "path": path}])


def unauthorized() -> Problem:
    # one body for a missing, malformed, unknown, revoked or expired key: which it is helps only an attacker
    return Problem(401, "Invalid or Missing API key", headers={"www-authenticate": "Bearer"})


def refused(refusal: Refusal) -> Problem:
    return Problem(_STATUS.get(refusal.code, 422), refusal.message, code=refusal.code)


def respond(path: str, problem: Problem, request_id: str) -> Response:
    if path.startswith(OWN):
        code = "insufficient_scope" if (problem.status, problem.code) == (403, "unauthorized") else problem.code
        error: Any = {"type": _type(problem.status), "code": code, "message": problem.message, "request_id": request_id}
        if problem.param:
            error["param"] = problem.param
        body: dict[str, Any] = {"error": error}
    else:
        body = {"error": problem.message, "code": problem.code, **problem.extra}
        if problem.param:
            body["param"] = problem.param
        if problem.status == 403:
            body["type"] = _type(problem.status)
        if problem.details:
            body["details"] = problem.details
    headers = dict(problem.headers)
    if problem.retry is not None:
        headers["x-should-retry"] = "true" if problem.retry else "false"
    return Response(msgspec.json.encode(body), problem.status, headers, headers.pop("content-type", "application/json"))


def _type(status: int) -> str:
    if status in (401, 403):
        return "authorization"
    return "server" if status >= 500 else "invalid_request"
