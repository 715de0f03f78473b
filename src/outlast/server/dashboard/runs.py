"""The list of runs: filtered by its address, a page at a time, live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode

from msgspec.structs import replace
from starlette.datastructures import QueryParams
from starlette.responses import Response

from outlast.engine import control, triggers
from outlast.model.duration import parse_duration
from outlast.model.refusal import Refusal
from outlast.model.requests import Cancel, Replay
from outlast.model.run import Run, RunOptions
from outlast.server.dashboard import charts, preferences
from outlast.server.dashboard.look import STATUSES
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import catalog, favourites, search
from outlast.store import charts as counting
from outlast.store.database import Connection
from outlast.store.search import Filter

PAGE = 50
COUNTED = 10_001  # "10,000+" is as good as the number
MANY_NEW = 100
PERIODS = (("1h", "Last hour"), ("6h", "Last 6 hours"), ("1d", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days"))
LISTS = ("status", "task", "version", "tag", "queue")  # may stand several times in the address
SINGLES = ("q", "batch", "schedule", "bulk", "parent", "period", "from", "to", "roots", "test")
BUCKETS = 60
MAX_PICKED = 250
MAX_TAGS = 10  # that begin with what was typed


async def show(visit: Visit) -> Response:
    """GET /runs"""
    asked = asked_for(visit)
    f = await visit.read(lambda tx: filter_of(tx, visit, asked))
    rows, older, newer, fresh = await visit.read(lambda tx: rows_of_page(tx, visit, f))
    on_one_page = not (older or newer or fresh)
    extra = await visit.read(lambda tx: _around(tx, visit))
    return visit.page(
        "runs/list.html",
        topics="runs",
        rows=rows,
        total=len(rows) if on_one_page else await _total(visit, asked, f),
        counted=COUNTED,
        older=address(asked, after=rows[-1][0].id) if older else None,
        newer=address(asked, before=rows[0][0].id) if newer and rows else None,
        fresh=fresh,
        chart=await activity(visit, asked),
        asked=asked,
        matching=address(asked),
        statuses=STATUSES,
        periods=PERIODS,
        columns=preferences.columns(visit.request),
        every_column=preferences.RUN_COLUMNS,
        filtered=any(asked[name] for name in (*LISTS, *SINGLES)),
        **extra,
    )


def asked_for(visit: Visit, query: QueryParams | None = None) -> dict[str, Any]:
    """The filters of the address, each as it was written. What no filter could mean is left out."""
    query = query if query is not None else visit.request.query_params
    asked: dict[str, Any] = {name: [v[:200] for v in query.getlist(name) if v and "\x00" not in v][:50] for name in LISTS}
    asked |= {name: "" if "\x00" in query.get(name, "") else query.get(name, "").strip()[:200] for name in SINGLES}
    asked["status"] = [s for s in asked["status"] if s in STATUSES]
    asked["period"] = asked["period"] if asked["period"] in dict(PERIODS) else ""
    for name in ("from", "to"):
        asked[name] = "" if asked["period"] else _moment(asked[name])
    return asked


def _moment(text: str) -> str:
    """In milliseconds, whether it was written so (bars that were dragged over) or as a date field does, in UTC."""
    if text.isdecimal() and len(text) <= 15:
        return text
    try:
        return str(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000))
    except ValueError:
        return ""


def filter_of(tx: Connection, visit: Visit, asked: dict[str, Any]) -> Filter:
    start = int(asked["from"]) if asked["from"] else None
    if asked["period"]:
        start = visit.now - parse_duration(asked["period"])
    f = Filter(
        env_id=visit.env.id,
        statuses=asked["status"],
        tasks=asked["task"],
        versions=asked["version"],
        tags=asked["tag"],
        queues=asked["queue"],
        batch=asked["batch"] or None,
        schedule=asked["schedule"] or None,
        bulk_action=asked["bulk"] or None,
        parent=asked["parent"] or None,
        roots_only=bool(asked["roots"]),
        is_test=True if asked["test"] else None,
        created_from=start,
        created_to=int(asked["to"]) if asked["to"] else None,
    )
    return _searched(tx, f, asked["q"], visit) if asked["q"] else f


def _searched(tx: Connection, f: Filter, text: str, visit: Visit) -> Filter:
    """One box for everything: a run's id or part of it, the begin of a tag, a part of a task's name."""
    if text.startswith("run_"):
        return replace(f, like_id=text)
    if not f.tags and (tags := search.tags_like(tx, f.env_id, text, MAX_TAGS)):
        return replace(f, tags=tags)
    tasks = [task for task in task_names(tx, visit) if text.lower() in task.lower()]
    if tasks and not f.tasks:
        return replace(f, tasks=tasks)
    return replace(f, like_id=text)


def task_names(tx: Connection, visit: Visit) -> list[str]:
    version = visit.env.current_version
    return sorted(catalog.task_definitions(tx, visit.env.id, version)) if version else []


def rows_of_page(tx: Connection, visit: Visit, f: Filter) -> tuple[list[tuple[Run, RunOptions]], bool, bool, int]:
    """The page, whether there are older and newer ones, and how many came since the page was frozen."""
    after, before, upto = (_cursor(visit.query.get(name)) for name in ("after", "before", "upto"))
    if before:
        found = search.rows(tx, replace(f, before=before), PAGE + 1)
        newer = len(found) > PAGE
        return (found[1:] if newer else found), True, newer, 0
    found = search.rows(tx, replace(f, after=after, upto=None if after else upto), PAGE + 1)
    fresh = search.count(tx, replace(f, before=upto), MANY_NEW) if upto and not after else 0
    return found[:PAGE], len(found) > PAGE, after is not None, fresh


def _cursor(text: str | None) -> str | None:
    return text if text and text.startswith("run_") and text[4:].isalnum() and len(text) < 65 else None


async def _total(visit: Visit, asked: dict[str, Any], f: Filter) -> int:
    """How many match. That they are more than we count is not counted again for every viewer and second."""
    key = ("many", visit.env.id, address(asked))
    return await visit.site.shelf.get(key, lambda: visit.read(lambda tx: search.count(tx, f, COUNTED)), kept_if=lambda n: n >= COUNTED)


def _around(tx: Connection, visit: Visit) -> dict[str, Any]:
    running, queued = counting.at_work(tx, visit.env.id)
    return {
        "running": running,
        "queued": queued,
        "tasks": task_names(tx, visit),
        "queues": [q.name for q in catalog.queue_page(tx, visit.env.id, offset=0, limit=100)[1]],
        "favourites": favourites.listed(tx, visit.env.id),
        "is_new": counting.oldest_run(tx, visit.env.id) is None,
    }


def address(asked: dict[str, Any], **more: str) -> str:
    pairs = [(name, value) for name in LISTS for value in asked[name]]
    pairs += [(name, asked[name]) for name in SINGLES if asked[name]]
    return "?" + urlencode([*pairs, *more.items()])


async def activity(visit: Visit, asked: dict[str, Any]) -> charts.Chart:
    """Runs over time, by outcome, over the period asked for or all there is within a week."""
    task = asked["task"][0] if len(asked["task"]) == 1 else None

    async def draw() -> charts.Chart:
        oldest = await visit.read(lambda tx: counting.oldest_run(tx, visit.env.id))
        now = visit.now
        span = parse_duration(asked["period"]) if asked["period"] else charts.span_of(oldest, now)
        width = span // BUCKETS
        start = now // width * width - (BUCKETS - 1) * width
        counts = await visit.read(lambda tx: counting.runs_over_time(tx, visit.env.id, start=start, width=width, task=task))
        return charts.stacked(counts, start=start, width=width, buckets=BUCKETS)

    return await visit.site.shelf.get(("runs", visit.env.id, asked["period"], task), draw)


async def bulk(visit: Visit) -> Response:
    """POST /runs/bulk: cancel or replay the runs that were ticked"""
    action, ids = visit.body.get("action"), visit.body.get("ids")
    if action not in ("cancel", "replay") or not isinstance(ids, list) or not 1 <= len(cast("list[Any]", ids)) <= MAX_PICKED:
        raise Problem(400, f"say cancel or replay, and 1 to {MAX_PICKED} runs")
    run_ids = [str(run_id) for run_id in cast("list[Any]", ids)]
    engine, env_id = visit.site.engine, visit.env.id
    waiting: list[Awaitable[Any]]
    if action == "cancel":
        reason = f"cancelled from the {visit.by}"
        waiting = [engine.submit(control.cancel, Cancel(env_id=env_id, run_id=i, reason=reason)) for i in run_ids]
    else:
        waiting = [engine.submit(triggers.replay, Replay(env_id=env_id, run_id=i)) for i in run_ids]
    outcomes: list[Any] = await asyncio.gather(*waiting)
    refused = sum(isinstance(outcome, Refusal) for outcome in outcomes)
    done = f"{'Canceled' if action == 'cancel' else 'Replaying'} {len(run_ids) - refused}"
    return visit.done(done + (f"; {refused} were over already" if refused and action == "cancel" else ""))
