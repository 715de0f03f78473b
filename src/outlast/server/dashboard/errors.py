"""What fails, grouped: runs whose error has the same name, task and words, whatever numbers and ids stand in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from starlette.responses import Response

from outlast.model.failure import Failure
from outlast.server.dashboard import charts
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import overview
from outlast.store.overview import Failed

PERIODS = {"1d": 86_400_000, "7d": 7 * 86_400_000, "30d": 30 * 86_400_000}
LOOKED_AT = 5_000  # failures of a period that are grouped, newest first
BUCKETS = 24
# what differs from one occurrence to the next
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b|\b[a-z]+_[0-9a-z]{20,}\b|\d+|'[^']*'|\"[^\"]*\"")
_failure = msgspec.json.Decoder(Failure).decode


@dataclass
class Group:
    id: str
    name: str
    message: str
    task: str
    runs: list[Failed] = field(default_factory=list[Failed])
    versions: set[str] = field(default_factory=set[str])
    sample: Failure = field(default_factory=Failure)
    chart: charts.Chart | None = None

    @property
    def first_at(self) -> int:
        return min(r.finished_at or 0 for r in self.runs)

    @property
    def last_at(self) -> int:
        return max(r.finished_at or 0 for r in self.runs)


def fingerprint(task: str, failure: Failure) -> str:
    words = _VARIABLE.sub("#", failure.message[:500])
    return "error_" + hashlib.blake2b(f"{task}\0{failure.name}\0{failure.code}\0{words}".encode(), digest_size=8).hexdigest()


def grouped(found: Sequence[Failed]) -> list[Group]:
    """Most frequent first."""
    groups: dict[str, Group] = {}
    for run in found:
        failure = _failure(run.error) if run.error else Failure(name=run.status)
        id_ = fingerprint(run.task, failure)
        group = groups.setdefault(id_, Group(id_, failure.name or failure.code or run.status, failure.message, run.task, sample=failure))
        group.runs.append(run)
        if run.version:
            group.versions.add(run.version)
    return sorted(groups.values(), key=lambda g: (-len(g.runs), g.id))


async def _groups(visit: Visit) -> tuple[str, list[Group]]:
    period = visit.query.get("period", "")
    period = period if period in PERIODS else "7d"
    task = visit.query.get("task") or None
    since = visit.now - PERIODS[period]
    found = await visit.read(lambda tx: overview.failures(tx, visit.env.id, since=since, limit=LOOKED_AT, task=task))
    groups = grouped(found)
    since = max(since, min((run.finished_at or visit.now for run in found), default=since))
    width = max(1, (visit.now - since) // BUCKETS)
    for group in groups[:200]:
        counts: dict[tuple[int, str], int] = {}
        for run in group.runs:
            key = (((run.finished_at or since) - since) // width, run.status)
            counts[key] = counts.get(key, 0) + 1
        group.chart = charts.stacked(counts, start=since, width=width, buckets=BUCKETS, height=20, bar=6)
    return period, groups[:200]


async def show(visit: Visit) -> Response:
    """GET /errors"""
    period, groups = await _groups(visit)
    return visit.page("errors/list.html", topics="runs", groups=groups, period=period, periods=list(PERIODS), looked_at=LOOKED_AT)


async def show_one(visit: Visit) -> Response:
    """GET /errors/{group}"""
    period, groups = await _groups(visit)
    group = next((g for g in groups if g.id == visit.request.path_params["group"]), None)
    if group is None:
        raise Problem(404, "no such group in this period")
    return visit.page("errors/group.html", topics="runs", group=group, period=period, periods=list(PERIODS))
