"""Schedules as Trigger.dev's clients know them; and what only we have: ticks, preview, backfill."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outlast.engine import schedules
from outlast.model import cron as crons
from outlast.model import schedule as model
from outlast.model.flow import ActivateSchedule, Backfill, DeleteSchedule, SaveSchedule
from outlast.model.limits import MAX_PREVIEW, TASK_ID
from outlast.model.schedule import CatchUp, Overlap, Schedule
from outlast.server import body as bodies
from outlast.server.auth import Caller
from outlast.server.context import accepted, answer, of, own_row
from outlast.server.problem import Problem, invalid
from outlast.server.push import iso
from outlast.server.query import number
from outlast.store import catalog
from outlast.store import schedules as store
from outlast.store.catalog import Environment
from outlast.store.database import Connection

MAX_TICKS = 200
MAX_KEY_CHARS = 256


class Body(msgspec.Struct, rename="camel"):
    """Also of an update, which has no deduplication key."""

    task: str
    cron: str
    deduplication_key: str | None = None
    external_id: str | None = None
    timezone: str | None = None
    window: str | None = None
    overlap: Overlap = "allow"
    catch_up: CatchUp = "none"


class PreviewBody(msgspec.Struct):
    cron: str
    timezone: str = "UTC"
    count: int = 10


_body = msgspec.json.Decoder(Body)
_preview = msgspec.json.Decoder(PreviewBody)


def wire(s: Schedule, env: Environment) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": s.id,
        "type": s.type,
        "task": s.task,
        "active": s.active,
        "deduplicationKey": s.deduplication_key,
        "externalId": s.external_id,
        "generator": {"type": "CRON", "expression": s.cron, "description": crons.describe(s.cron)},
        "timezone": s.timezone,
        "nextRun": iso(s.next_at),
        "nextRunEffectiveAt": iso(s.due_at),
        "environments": [{"id": str(env.id), "type": env.type}],
        "overlap": s.overlap,
        "catchUp": s.catch_up,
        "lastRun": iso(s.last_at),
        "lastRunId": s.last_run_id,
        "pauseReason": s.pause_reason,
        "createdAt": iso(s.created_at),
        "updatedAt": iso(s.updated_at),
    }
    if s.window is not None:
        found["window"] = s.window
    return found


async def create(request: Request) -> Response:
    """POST /api/v1/schedules: made, or changed when its deduplication key is known."""
    caller = await of(request).caller(request)
    body = await _read(request)
    if not body.deduplication_key:
        raise invalid("deduplicationKey is required: the same key updates the schedule instead of making another", "deduplicationKey")
    return await _save(request, caller, body, None)


async def update(request: Request) -> Response:
    """PUT /api/v1/schedules/{schedule}"""
    s, caller = await _found(request)
    return await _save(request, caller, await _read(request), s.id)


async def _read(request: Request) -> Body:
    bodies.check_type(request)
    return bodies.decode(await bodies.read(request, 64 * 1024), _body)


async def _save(request: Request, caller: Caller, body: Body, schedule_id: str | None) -> Response:
    engine = of(request).engine
    await _check_task(request, caller, body.task)
    try:
        cron = crons.check_cron(body.cron, engine.clock.now())
        timezone = crons.check_zone(body.timezone or "UTC")
        window = None if body.window is None else model.check_window(body.window)
    except ValueError as error:
        raise Problem(422, str(error), code="validation_error", param=_which(str(error))) from error
    item = SaveSchedule(
        env_id=caller.env.id, task=body.task, cron=cron, timezone=timezone, schedule_id=schedule_id,
        deduplication_key=_text(body.deduplication_key, "deduplicationKey"), external_id=_text(body.external_id, "externalId"),
        window=window, overlap=body.overlap, catch_up=body.catch_up,
    )  # fmt: skip
    return answer(wire(accepted(await engine.call(schedules.save_schedule, item)), caller.env))


def _which(message: str) -> str:
    return "timezone" if message.startswith("timezone") else "window" if message.startswith("window") else "cron"


def _text(value: str | None, name: str) -> str | None:
    if value is not None and (len(value) > MAX_KEY_CHARS or "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise invalid(f"{name} must be a text of at most {MAX_KEY_CHARS} characters", name)
    return value


async def _check_task(request: Request, caller: Caller, task: str) -> None:
    """Schedules are for tasks that say they are scheduled: others would not understand their payload."""
    if not TASK_ID.fullmatch(task):
        raise Problem(422, f"{task[:100]!r} is not a task id", code="validation_error", param="task")

    def query(tx: Connection) -> Any:
        version = catalog.environment(tx, caller.env.id).current_version
        return catalog.task_definitions(tx, caller.env.id, version, [task]).get(task) if version else None

    definition = await of(request).engine.read(query)
    if definition is None:
        raise Problem(422, f"task {task} is not in the current version of this environment", code="task_not_found", param="task")
    if not definition.scheduled:
        raise Problem(422, f"task {task} is not a scheduled task: declare it with @schedules.task", code="not_scheduled", param="task")


async def _found(request: Request) -> tuple[Schedule, Caller]:
    return await own_row(request, "schedule", store.one, "Schedule")


async def retrieve(request: Request) -> Response:
    """GET /api/v1/schedules/{schedule}"""
    s, caller = await _found(request)
    return answer(wire(s, caller.env))


async def listing(request: Request) -> Response:
    """GET /api/v1/schedules"""
    context = of(request)
    caller = await context.caller(request)
    page, size = number(request, "page", 1, 1_000_000), number(request, "perPage", 20, 100)
    total, found = await context.engine.read(lambda tx: store.page(tx, caller.env.id, offset=(page - 1) * size, limit=size))
    pagination = {"currentPage": page, "totalPages": max(1, -(-total // size)), "count": total}
    return answer({"data": [wire(s, caller.env) for s in found], "pagination": pagination})


async def delete(request: Request) -> Response:
    """DELETE /api/v1/schedules/{schedule}"""
    s, caller = await _found(request)
    accepted(await of(request).engine.call(schedules.delete_schedule, DeleteSchedule(env_id=caller.env.id, schedule_id=s.id)))
    return answer({"id": s.id})


async def activate(request: Request) -> Response:
    """POST /api/v1/schedules/{schedule}/activate"""
    return await _activate(request, active=True)


async def deactivate(request: Request) -> Response:
    """POST /api/v1/schedules/{schedule}/deactivate; a body may say why."""
    return await _activate(request, active=False)


async def _activate(request: Request, *, active: bool) -> Response:
    s, caller = await _found(request)
    reason = (await bodies.read_object(request)).get("reason")
    if reason is not None and (not isinstance(reason, str) or len(reason) > 1_000):
        raise invalid("reason must be a text of at most 1000 characters", "reason")
    item = ActivateSchedule(env_id=caller.env.id, schedule_id=s.id, active=active, reason=reason)
    return answer(wire(accepted(await of(request).engine.call(schedules.activate_schedule, item)), caller.env))


async def timezones(request: Request) -> Response:
    """GET /api/v1/timezones?excludeUtc=: names everybody knows; the official client sends no key here."""
    return answer({"timezones": crons.zones(utc=request.query_params.get("excludeUtc") != "true")})


async def ticks(request: Request) -> Response:
    """GET /api/outlast/v1/schedules/{schedule}/ticks: what was done at its last nominal times."""
    s, _ = await _found(request)
    limit = number(request, "limit", 50, MAX_TICKS)
    found = await of(request).engine.read(lambda tx: store.ticks(tx, s.id, limit))
    rows = [{"timestamp": iso(t.nominal_at), "at": iso(t.at), "runId": t.run_id, "reason": t.reason} for t in found]
    return answer({"data": rows})


async def upcoming(request: Request) -> Response:
    """GET /api/outlast/v1/schedules/{schedule}/upcoming?count=: its next times, nominal and effective."""
    s, caller = await _found(request)
    count = number(request, "count", 10, MAX_PREVIEW)
    times = crons.occurrences(s.cron, s.timezone, of(request).engine.clock.now())
    nominal = [next(times) for _ in range(count)]
    secret = caller.env.signing_secret
    return answer({"data": [{"timestamp": iso(at), "effectiveAt": iso(model.effective_at(s, at, secret))} for at in nominal]})


async def preview(request: Request) -> Response:
    """POST /api/outlast/v1/schedules/preview: the next times of a pattern, before there is a schedule."""
    await of(request).caller(request)
    bodies.check_type(request)
    body = bodies.decode(await bodies.read(request, 16 * 1024), _preview)
    now = of(request).engine.clock.now()
    if not 1 <= body.count <= MAX_PREVIEW:
        raise Problem(422, f"count must be 1 to {MAX_PREVIEW}", code="validation_error", param="count")
    try:
        cron, timezone = crons.check_cron(body.cron, now), crons.check_zone(body.timezone)
    except ValueError as error:
        raise Problem(422, str(error), code="validation_error", param=_which(str(error))) from error
    times = crons.occurrences(cron, timezone, now)
    return answer({"description": crons.describe(cron), "data": [iso(next(times)) for _ in range(body.count)]})


async def backfill(request: Request) -> Response:
    """POST /api/outlast/v1/schedules/{schedule}/backfill {from, to}: a run for each past time in [from, to] that has none."""
    s, caller = await _found(request)
    body = await bodies.read_object(request)
    start, end = _moment(body.get("from"), "from"), _moment(body.get("to"), "to")
    if start > end:
        raise Problem(422, "from is after to", code="validation_error", param="from")
    if end > of(request).engine.clock.now():
        raise Problem(422, "to is in the future: a backfill is for times that have passed", code="validation_error", param="to")
    item = Backfill(env_id=caller.env.id, schedule_id=s.id, after=start - 1, until=end)
    return answer({"count": accepted(await of(request).engine.call(schedules.backfill, item))}, 202)


def _moment(value: Any, name: Literal["from", "to"]) -> int:
    try:
        at = datetime.fromisoformat(value.replace("Z", "+00:00"))
        if at.tzinfo is None:
            raise ValueError
        return round(at.astimezone(UTC).timestamp() * 1_000)
    except (AttributeError, ValueError, OverflowError) as error:
        raise Problem(422, f"{name} must be an ISO date with a zone", code="validation_error", param=name) from error
