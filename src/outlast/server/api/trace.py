"""A run's trace as Trigger.dev shows it: a tree of spans, pages of flat ones, or one with its details."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.model.run import Run, RunData
from outlast.server.api.runs import found
from outlast.server.context import answer, of
from outlast.server.problem import Problem
from outlast.server.push import iso
from outlast.server.query import page_size
from outlast.server.trace import Span, spans
from outlast.store import events
from outlast.store import trace as rows

LEVELS = {"debug": "DEBUG", "info": "INFO", "log": "LOG", "warn": "WARN", "error": "ERROR"}
MAX_PAGE = 10_000


async def trace(request: Request) -> Response:
    """GET /api/v1/runs/{run}/trace: the tree; with page[size] or page[after] flat spans, a page at a time."""
    run, data, _ = await found(request)
    listed = await of(request).engine.read(lambda tx: spans(tx, run))
    if "page[size]" in request.query_params or "page[after]" in request.query_params:
        return _page(request, run, listed)
    below: dict[str, list[dict[str, Any]]] = {span.id: [] for span in listed}
    shown = {
        span.id: {**_identity(run, span), "data": _data(run, data, span, _now(request)), "children": below[span.id]} for span in listed
    }
    for span in listed[1:]:
        below.get(span.parent or "run", below["run"]).append(shown[span.id])
    return answer({"trace": {"traceId": _trace_id(run, data), "rootSpan": shown["run"]}})


def _page(request: Request, run: Run, listed: Sequence[Span]) -> Response:
    size, now = page_size(request, default=MAX_PAGE, limit=MAX_PAGE), _now(request)
    after = request.query_params.get("page[after]", "0")
    if not after.isascii() or not after.isdecimal() or len(after) > 9:
        raise Problem(400, "the cursor is not one of ours", code="invalid_cursor")
    start = int(after)
    body: dict[str, Any] = {
        "data": [{**_identity(run, span), **_times(span, now)} for span in listed[start : start + size]],
        "attemptFailures": [
            {"spanId": _span_id(run, span), "attemptNumber": _attempt(span), "runId": run.id}
            for span in listed[start : start + size]
            if span.kind == "attempt" and span.status == "bad"
        ],
        "pagination": {"next": str(start + size)} if len(listed) > start + size else {},
    }
    return answer(body)


async def listing(request: Request) -> Response:
    """GET /api/v1/runs/{run}/events: all spans, flat."""
    run, _, _ = await found(request)
    listed = await of(request).engine.read(lambda tx: spans(tx, run))
    now = _now(request)
    return answer(
        {"events": [{**_identity(run, span), "spanId": _span_id(run, span), "kind": span.kind, **_times(span, now)} for span in listed]}
    )


async def span(request: Request) -> Response:
    """GET /api/v1/runs/{run}/spans/{span}"""
    run, _, _ = await found(request)
    engine, wanted = of(request).engine, request.path_params["span"]
    listed = await engine.read(lambda tx: spans(tx, run))
    one = next((span for span in listed if wanted in (span.id, _span_id(run, span))), None)
    if one is None:
        raise Problem(404, "Span not found")
    children = await engine.read(lambda tx: rows.children(tx, run.id, 1_000))
    times = _times(one, _now(request))
    body = {
        "spanId": _span_id(run, one),
        "parentId": None if one.parent is None else hash_of(run.id, one.parent),
        "runId": run.id,
        **{name: value for name, value in times.items() if name not in ("duration", "attemptNumber")},
        "durationMs": times["duration"] / 1e6,
        "properties": {"kind": one.kind, "note": one.note},
        "events": await engine.read(lambda tx: events.history(tx, run.id)) if one.id == "run" else [],
        "triggeredRuns": [
            {"runId": child.id, "taskIdentifier": child.task, "status": child.status, "createdAt": iso(child.created_at)}
            for child in children
            if one.id in ("run", f"r{child.id}")
        ],
    }
    return answer(body)


def _identity(run: Run, span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {"id": _span_id(run, span), "runId": run.id}
    if span.parent is not None:
        found["parentId"] = hash_of(run.id, span.parent)
    return found


def _data(run: Run, data: RunData, span: Span, now: int) -> dict[str, Any]:
    found: dict[str, Any] = {**_times(span, now), "taskSlug": run.task, "queueName": run.queue, "events": []}
    optional = {"workerVersion": run.version, "machinePreset": data.options.machine}
    return found | {name: value for name, value in optional.items() if value is not None}


def _times(span: Span, now: int) -> dict[str, Any]:
    """When it was, how long in nanoseconds, and what became of it."""
    found: dict[str, Any] = {
        "message": span.name,
        "startTime": iso(span.start),
        "duration": ((now if span.end is None else span.end) - span.start) * 1_000_000,
        "isError": span.status == "bad",
        "isPartial": span.end is None,
        "isCancelled": span.status == "mute",
        "level": LEVELS.get(span.note, "INFO") if span.kind == "log" else "TRACE",
    }
    return found | {"attemptNumber": _attempt(span)} if span.kind == "attempt" else found


def _attempt(span: Span) -> int:
    return int(span.id[1:])


def _now(request: Request) -> int:
    return of(request).engine.clock.now()


def _trace_id(run: Run, data: RunData) -> str:
    """The caller's, if it sent one; else the same for a run and all it made."""
    parts = (data.options.traceparent or "").split("-")
    return (
        parts[1]
        if len(parts) == 4 and len(parts[1]) == 32
        else hashlib.blake2b((run.root_id or run.id).encode(), digest_size=16).hexdigest()
    )


def _span_id(run: Run, span: Span) -> str:
    return hash_of(run.id, span.id)


def hash_of(run_id: str, span_id: str) -> str:
    return hashlib.blake2b(f"{run_id}:{span_id}".encode(), digest_size=8).hexdigest()
