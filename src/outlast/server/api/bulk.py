"""Bulk actions: cancel or replay many runs, see how far it came, abort it, and take back what has not run."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine import bulk
from outlast.model.bulk import AbortBulk, BulkAction, StartBulk
from outlast.model.limits import MAX_BULK_RUN_IDS
from outlast.model.refusal import Refusal
from outlast.model.run import Status
from outlast.server import body as bodies
from outlast.server.auth import Caller
from outlast.server.context import accepted, answer, of, own_row
from outlast.server.problem import Problem, invalid
from outlast.server.push import iso
from outlast.server.query import page_size, times
from outlast.store import bulk as store
from outlast.store import search
from outlast.store.search import Filter

DEFAULT_PERIOD_MS = 7 * 86_400_000
MAX_COUNT = 1_000_000
POLL_SECONDS = 0.25
Texts = str | list[str] | None


class RunFilter(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The filters of `runs.list`, flat."""

    status: Texts = None
    task_identifier: Texts = None
    version: Texts = None
    tag: Texts = None
    queue: Any = None
    machine: Texts = None
    region: Texts = None
    batch: str | None = None
    schedule: str | None = None
    bulk_action: str | None = None
    is_test: bool | None = None
    from_: Any = msgspec.field(default=None, name="from")
    to: Any = None
    period: str | None = None


class Body(msgspec.Struct, rename="camel"):
    action: str
    run_ids: list[str] | None = None
    filter: RunFilter | None = None
    name: str | None = None
    target_region: str | None = None


_body = msgspec.json.Decoder(Body)


def wire(a: BulkAction) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": a.id,
        "type": a.type,
        "status": a.status,
        "counts": {"total": max(a.total, a.success + a.failure), "success": a.success, "failure": a.failure},
        "createdAt": iso(a.created_at),
    }
    optional = {"name": a.name, "completedAt": iso(a.completed_at), "undoOf": a.undo_of}
    return {**found, **{name: value for name, value in optional.items() if value is not None}}


async def create(request: Request) -> Response:
    """POST /api/v1/bulk-actions"""
    context = of(request)
    caller = await context.caller(request)
    bodies.check_type(request)
    body = bodies.decode(await bodies.read(request, 256 * 1024), _body)
    if body.action not in ("cancel", "replay"):
        raise invalid("action must be cancel or replay", "action")
    if (body.run_ids is None) == (body.filter is None):
        raise invalid("give either runIds or filter, not both", "runIds")
    if body.name is not None and (len(body.name) > 255 or "\x00" in body.name):
        raise invalid("name must be a text of at most 255 characters", "name")
    if body.run_ids is not None:
        ids = _ids(body.run_ids)
        item = StartBulk(env_id=caller.env.id, type=_TYPES[body.action], name=body.name, total=len(ids), run_ids=_json(ids))
    else:
        assert body.filter is not None
        f = filter_of(body.filter, caller.env.id, context.engine.clock.now())
        total = await context.engine.read(lambda tx: search.count(tx, f, MAX_COUNT))
        item = StartBulk(env_id=caller.env.id, type=_TYPES[body.action], name=body.name, total=total, filter=_json(f))
    return await _begin(request, item)


_TYPES: Any = {"cancel": "CANCEL", "replay": "REPLAY"}


async def _begin(request: Request, item: StartBulk) -> Response:
    made = await of(request).engine.call(bulk.start_bulk, item)
    if isinstance(made, Refusal) and made.code == "too_many":
        raise Problem(429, made.message, code=made.code, retry=True, headers={"retry-after": "10"})
    return answer({"id": accepted(made).id}, 202)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _ids(run_ids: list[str]) -> list[str]:
    """Newest first, as a cursor goes through them."""
    if not 1 <= len(run_ids) <= MAX_BULK_RUN_IDS:
        raise invalid(f"runIds must be 1 to {MAX_BULK_RUN_IDS} ids; use a filter for more", "runIds")
    if any(not run_id or len(run_id) > 64 or not run_id.isascii() or not run_id.isprintable() for run_id in run_ids):
        raise invalid("runIds holds something that is no id", "runIds")
    return sorted(set(run_ids), reverse=True)


def filter_of(f: RunFilter, env_id: int, now: int) -> Filter:
    """The runs that are meant, fixed at this moment: what is made later is never among them.

    Raises:
        Problem: 400, naming the field.
    """
    statuses = _many(f.status, "status")
    if wrong := [status for status in statuses if status not in Status.__members__]:
        raise invalid(f"Invalid status values: {', '.join(wrong)[:200]}", "filter.status")
    given = {"from": f.from_, "to": f.to, "period": f.period}
    query = {name: str(value) for name, value in given.items() if value is not None}
    created_from, created_to = times(query, now, "{}", default_ms=DEFAULT_PERIOD_MS)
    return Filter(
        env_id=env_id, statuses=statuses, tasks=_many(f.task_identifier, "taskIdentifier"), versions=_many(f.version, "version"),
        tags=_many(f.tag, "tag"), queues=_queues(f.queue), machines=_many(f.machine, "machine"), regions=_many(f.region, "region"),
        batch=f.batch, schedule=f.schedule, bulk_action=f.bulk_action, is_test=f.is_test, created_from=created_from,
        created_to=min(created_to, now) if created_to is not None else now,
    )  # fmt: skip


def _many(value: Texts, name: str) -> list[str]:
    found = [value] if isinstance(value, str) else value or []
    if len(found) > 100 or any("\x00" in text or len(text) > 256 for text in found):
        raise invalid(f"filter.{name} must be at most 100 texts", f"filter.{name}")
    return found


def _queues(value: Any) -> list[str]:
    """A name, or Trigger.dev's {type, name}; several of them in a list."""
    items: list[Any] = value if isinstance(value, list) else [] if value is None else [value]  # pyright: ignore[reportUnknownVariableType]
    names: list[str] = []
    for item in items:
        if isinstance(item, dict):
            ref: dict[str, Any] = item  # pyright: ignore[reportUnknownVariableType]
            item = f"task/{ref.get('name')}" if ref.get("type") == "task" else ref.get("name")
        if not isinstance(item, str):
            raise invalid("filter.queue must be a name, or {type, name}", "filter.queue")
        names.append(item)
    return _many(names, "queue")


async def _found(request: Request) -> tuple[BulkAction, Caller]:
    return await own_row(request, "bulk", store.one, "Bulk action")


async def retrieve(request: Request) -> Response:
    """GET /api/v1/bulk-actions/{bulk}; with ?wait=SECONDS it is held until the action is over."""
    action, caller = await _found(request)
    text = request.query_params.get("wait", "0")
    if not text.isdecimal() or int(text[:4]) > 60:
        raise invalid("wait must be 0 to 60", "wait")
    loop = asyncio.get_running_loop()
    until = loop.time() + int(text)
    while action.status == "PENDING" and loop.time() < until:
        await asyncio.sleep(POLL_SECONDS)
        id_ = action.id
        action = await of(request).engine.read(lambda tx: store.one(tx, caller.env.id, id_)) or action  # noqa: B023 - awaited at once
    return answer(wire(action))


async def listing(request: Request) -> Response:
    """GET /api/v1/bulk-actions"""
    context = of(request)
    caller = await context.caller(request)
    size = page_size(request, default=25)
    before, after = (_cursor(request.query_params.get(f"page[{name}]")) for name in ("before", "after"))
    after = None if before else after
    rows = await context.engine.read(lambda tx: store.page(tx, caller.env.id, after=after, before=before, limit=size + 1))
    more = len(rows) > size
    rows = (rows[1:] if more else rows) if before else rows[:size]
    pagination: dict[str, str] = {}
    if rows and (more or before):
        pagination["next"] = rows[-1].id
    if rows and ((before and more) or after):
        pagination["previous"] = rows[0].id
    return answer({"data": [wire(row) for row in rows], "pagination": pagination})


def _cursor(text: str | None) -> str | None:
    if text and (not text.startswith("bulk_") or not text[5:].isalnum() or len(text) > 64):
        raise Problem(400, "the cursor is not one of ours", code="invalid_cursor")
    return text or None


async def abort(request: Request) -> Response:
    """POST /api/v1/bulk-actions/{bulk}/abort"""
    action, caller = await _found(request)
    accepted(await of(request).engine.call(bulk.abort_bulk, AbortBulk(env_id=caller.env.id, bulk_id=action.id)))
    return answer({"id": action.id})


async def undo(request: Request) -> Response:
    """POST /api/outlast/v1/bulk-actions/{bulk}/undo: a bulk action that takes back what this one did and has not run.

    Replays that wait are cancelled; runs that were cancelled before they had begun are replayed.
    """
    action, caller = await _found(request)
    if action.status == "PENDING":
        raise Problem(422, "the bulk action is still under way: abort it first", code="not_finished")
    item = StartBulk(
        env_id=caller.env.id, type="CANCEL" if action.type == "REPLAY" else "REPLAY", name=f"Undo of {action.name or action.id}"[:255],
        total=0, undo_of=action.id,
    )  # fmt: skip
    return await _begin(request, item)
