"""Schedules: when tasks are triggered by themselves, made and changed with their next times in view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from starlette.responses import Response

from outlast.engine import schedules as operations
from outlast.model import cron as crons
from outlast.model import schedule as model
from outlast.model.flow import ActivateSchedule, DeleteSchedule, SaveSchedule
from outlast.model.schedule import Schedule
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import catalog, search
from outlast.store import schedules as store
from outlast.store.database import Connection

PAGE = 100
SHOWN = 25
NEXT = 5
MAX_TEXT = 256
PRESETS = (("*/5 * * * *", "every 5 minutes"), ("0 * * * *", "every hour"), ("0 9 * * 1-5", "weekdays at 9"), ("0 3 1 * *", "monthly"))
FIELDS = ("task", "cron", "timezone", "externalId", "window", "overlap", "catchUp")


async def show(visit: Visit) -> Response:
    """GET /schedules"""
    total, rows = await visit.read(lambda tx: store.page(tx, visit.env.id, offset=0, limit=PAGE))
    return visit.page("schedules/list.html", topics="schedules,runs", total=total, rows=rows, describe=crons.describe)


async def found(visit: Visit) -> Schedule:
    """The schedule of the address.

    Raises:
        Problem: 404.
    """
    id_ = visit.request.path_params["schedule"]
    schedule = await visit.read(lambda tx: store.one(tx, visit.env.id, id_)) if "\x00" not in id_ else None
    if schedule is None:
        raise Problem(404, "no such schedule")
    return schedule


async def show_one(visit: Visit) -> Response:
    """GET /schedules/{schedule}"""
    s = await found(visit)

    def query(tx: Connection) -> dict[str, Any]:
        ticks = store.ticks(tx, s.id, SHOWN)
        ids = [t.run_id for t in ticks if t.run_id is not None]
        return {"ticks": ticks, "runs": {run.id: run for run, _ in search.named(tx, visit.env.id, ids)}}

    upcoming = _upcoming(s.cron, s.timezone, visit.now) if s.active else []
    return visit.page(
        "schedules/schedule.html", topics="schedules,runs", s=s, upcoming=upcoming, describe=crons.describe, **await visit.read(query)
    )


def _upcoming(cron: str, timezone: str, now: int) -> list[int]:
    times = crons.occurrences(cron, timezone, now)
    return [next(times) for _ in range(NEXT)]


async def edit(visit: Visit) -> Response:
    """GET /schedules/new and /schedules/{schedule}/edit: what is typed stands in the address, and its meaning beside it"""
    s = await found(visit) if "schedule" in visit.request.path_params else None
    if s is not None and s.type == "DECLARATIVE":
        raise Problem(403, f"This schedule is declared by task {s.task}: change it in code.")
    typed = {name: visit.query.get(name, "")[:MAX_TEXT] for name in FIELDS} if visit.query else _as_typed(s)
    version = visit.env.current_version
    tasks = await visit.read(lambda tx: catalog.task_definitions(tx, visit.env.id, version)) if version else {}
    wrong, upcoming = _looked_at(typed, visit.now)
    return visit.page(
        "schedules/edit.html", topics="schedules,deployments", s=s, typed=typed, zones=crons.zones(), presets=PRESETS,
        tasks=sorted(name for name, t in tasks.items() if t.scheduled), overlaps=model.OVERLAPS, catch_ups=model.CATCH_UPS,
        wrong=wrong, upcoming=upcoming, describe=crons.describe,
    )  # fmt: skip


def _as_typed(s: Schedule | None) -> dict[str, str]:
    if s is None:
        return dict.fromkeys(FIELDS, "") | {"cron": "", "timezone": "UTC", "overlap": "allow", "catchUp": "none"}
    values = (s.task, s.cron, s.timezone, s.external_id or "", s.window or "", s.overlap, s.catch_up)
    return dict(zip(FIELDS, values, strict=True))


def _looked_at(typed: dict[str, str], now: int) -> tuple[dict[str, str], list[int]]:
    """What is wrong with each field, and the next times when nothing is."""
    wrong: dict[str, str] = {}
    checks: dict[str, Callable[[str], str]] = {
        "cron": lambda text: crons.check_cron(text, now),
        "timezone": crons.check_zone,
        "window": model.check_window,
    }
    for name, check in checks.items():
        if typed[name]:
            try:
                check(typed[name])
            except ValueError as error:
                wrong[name] = str(error)
    ready = typed["cron"] and not {"cron", "timezone"} & wrong.keys()
    return wrong, _upcoming(typed["cron"], typed["timezone"] or "UTC", now) if ready else []


async def save(visit: Visit) -> Response:
    """POST /schedules and /schedules/{schedule}"""
    s = await found(visit) if "schedule" in visit.request.path_params else None
    typed = {name: visit.text(name, MAX_TEXT, required=name in ("task", "cron")) for name in FIELDS}
    wrong, _ = _looked_at(typed, visit.now)
    for name, message in wrong.items():
        raise Problem(400, message, param=name)
    await _check_task(visit, typed["task"])
    if typed["overlap"] not in ("", *model.OVERLAPS) or typed["catchUp"] not in ("", *model.CATCH_UPS):
        raise Problem(400, "overlap and catch-up are chosen from their lists", param="overlap")
    item = SaveSchedule(
        env_id=visit.env.id, task=typed["task"], cron=typed["cron"], timezone=typed["timezone"] or "UTC", schedule_id=s.id if s else None,
        deduplication_key=s.deduplication_key if s else None, external_id=typed["externalId"] or None, window=typed["window"] or None,
    )  # fmt: skip
    item = replace(item, overlap=typed["overlap"] or "allow", catch_up=typed["catchUp"] or "none")
    made: Schedule = await visit.call(operations.save_schedule, item)
    return visit.done("Saved", href=f"/schedules/{made.id}", topics=("schedules",))


async def _check_task(visit: Visit, task: str) -> None:
    version = visit.env.current_version
    known = (
        await visit.read(lambda tx: catalog.task_definitions(tx, visit.env.id, version, [task])) if version and "\x00" not in task else {}
    )
    if task not in known or not known[task].scheduled:
        raise Problem(400, f"{task} is no scheduled task of the current version: declare it with @schedules.task", param="task")


async def activate(visit: Visit) -> Response:
    """POST /schedules/{schedule}/activate with `active`"""
    s, active = await found(visit), visit.body.get("active") is True
    reason = None if active else f"disabled from the {visit.by}"
    await visit.call(operations.activate_schedule, ActivateSchedule(env_id=visit.env.id, schedule_id=s.id, active=active, reason=reason))
    return visit.done("It fires again" if active else "It does not fire any more", topics=("schedules",))


async def delete(visit: Visit) -> Response:
    """POST /schedules/{schedule}/delete"""
    s = await found(visit)
    await visit.call(operations.delete_schedule, DeleteSchedule(env_id=visit.env.id, schedule_id=s.id))
    return visit.done("Deleted", href="/schedules", topics=("schedules",))
