"""What fails, in groups: how often, since when, in which versions; resolved, ignored and opened again here."""

from __future__ import annotations

from starlette.responses import Response

from outlast.server import errors
from outlast.server.api.errors import is_id
from outlast.server.dashboard import charts
from outlast.server.dashboard.visit import Visit
from outlast.server.errors import Group
from outlast.server.problem import Problem

PERIODS = {"1d": 86_400_000, "7d": 7 * 86_400_000, "30d": 30 * 86_400_000}
STATES = ("open", "resolved", "ignored", "all")
SHOWN = 200
BUCKETS = 24


async def _groups(visit: Visit) -> tuple[str, list[Group], dict[str, charts.Chart]]:
    period = visit.query.get("period", "")
    period = period if period in PERIODS else "7d"
    task = visit.query.get("task", "")
    since = visit.now - PERIODS[period]
    wanted = None if "\x00" in task else task or None
    found = await visit.read(lambda tx: errors.groups(tx, visit.env.id, since=since, now=visit.now, task=wanted))
    since = max(since, min((group.first_at for group in found), default=since))
    width = max(1, (visit.now - since) // BUCKETS)
    return period, found, {group.id: _chart(group, since, width) for group in found[:SHOWN]}


def _chart(group: Group, since: int, width: int) -> charts.Chart:
    counts: dict[tuple[int, str], int] = {}
    for run in group.runs:
        key = (((run.finished_at or since) - since) // width, run.status)
        counts[key] = counts.get(key, 0) + 1
    return charts.stacked(counts, start=since, width=width, buckets=BUCKETS, height=20, bar=6)


async def show(visit: Visit) -> Response:
    """GET /errors"""
    period, found, drawn = await _groups(visit)
    state = visit.query.get("status", "")
    state = state if state in STATES else "open"
    shown = [g for g in found if state == "all" or g.status == state or (state == "open" and g.status in errors.OPEN)]
    counts = {
        name: sum(g.status == name or (name == "open" and g.status in errors.OPEN) or name == "all" for g in found) for name in STATES
    }
    return visit.page(
        "errors/list.html",
        topics="runs,errors",
        groups=shown[:SHOWN],
        drawn=drawn,
        period=period,
        periods=list(PERIODS),
        state=state,
        counts=counts,
    )


async def show_one(visit: Visit) -> Response:
    """GET /errors/{group}"""
    period, found, drawn = await _groups(visit)
    group = next((g for g in found if g.id == visit.request.path_params["group"]), None)
    if group is None or group.id not in drawn:
        raise Problem(404, "no such group in this period")
    return visit.page("errors/group.html", topics="runs,errors", group=group, chart=drawn[group.id], period=period, periods=list(PERIODS))


async def decide(visit: Visit) -> Response:
    """POST /errors/{group} with `action`"""
    group = visit.request.path_params["group"]
    if not is_id(group) or not await visit.read(lambda tx: errors.is_known(tx, visit.env.id, group)):
        raise Problem(404, "no such group")
    decision = errors.decided(visit.env.id, group, visit.body, by=visit.by, now=visit.now)
    await visit.site.engine.write(lambda tx: errors.decide(tx, visit.env.id, group, decision))
    said = (
        "Open again" if decision is None else "Resolved: it opens again when it comes back" if decision.status == "resolved" else "Ignored"
    )
    return visit.done(said, topics=("errors",))
