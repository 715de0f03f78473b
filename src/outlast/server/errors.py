"""What fails, grouped: runs whose error has the same name, task and words, whatever numbers and ids stand in them.

A group is unresolved until somebody resolves or ignores it; what fails later decides whether that still holds, when it is looked at.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from outlast.model.duration import parse_duration
from outlast.model.failure import Failure
from outlast.server.problem import invalid
from outlast.store import error_groups, overview
from outlast.store.database import Connection
from outlast.store.error_groups import Decision
from outlast.store.overview import Failed

LOOKED_AT = 5_000  # failures that are grouped, newest first
STATUSES = ("unresolved", "regressed", "resolved", "ignored")
ACTIONS = ("resolve", "ignore", "reopen")
OPEN = ("unresolved", "regressed")
HOUR_MS = 3_600_000
MAX_MORE = 1_000_000
MAX_REASON = 500
# what differs from one occurrence to the next
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b|\b[a-z]+_[0-9a-z]{20,}\b|\d+|'[^']*'|\"[^\"]*\"")
_failure = msgspec.json.Decoder(Failure).decode


@dataclass
class Group:
    """`runs`: those of the period that was asked for, newest first."""

    id: str
    name: str
    message: str
    task: str
    runs: list[Failed] = field(default_factory=list[Failed])
    sample: Failure = field(default_factory=Failure)
    status: str = "unresolved"
    decision: Decision | None = None

    @property
    def first_at(self) -> int:
        return min(r.finished_at or 0 for r in self.runs)

    @property
    def last_at(self) -> int:
        return max(r.finished_at or 0 for r in self.runs)

    @property
    def versions(self) -> list[str]:
        return sorted({r.version for r in self.runs if r.version}, key=_order)


def fingerprint(task: str, failure: Failure) -> str:
    words = _VARIABLE.sub("#", failure.message[:500])
    return "error_" + hashlib.blake2b(f"{task}\0{failure.name}\0{failure.code}\0{words}".encode(), digest_size=8).hexdigest()


def groups(tx: Connection, env_id: int, *, since: int, now: int, task: str | None = None, limit: int = LOOKED_AT) -> list[Group]:
    """Groups with failures since then, the most frequent first. What was decided earlier is held against all that failed from then on."""
    decisions = error_groups.listed(tx, env_id)
    earliest = min([since, *(d.at for d in decisions.values())])
    found = grouped(overview.failures(tx, env_id, since=earliest, limit=limit, task=task))
    for group in found:
        group.decision = decisions.get(group.id)
        group.status = standing(group.decision, group.runs, now)
        group.runs = [run for run in group.runs if (run.finished_at or 0) >= since]
    return sorted((g for g in found if g.runs), key=lambda g: (-len(g.runs), g.id))


def runs_of(tx: Connection, env_id: int, groups: Collection[str], *, since: int) -> list[str]:
    """Runs of these groups, of those that are looked at."""
    found = overview.failures(tx, env_id, since=since, limit=LOOKED_AT)
    return [run.run_id for group in grouped(found) if group.id in groups for run in group.runs]


def is_known(tx: Connection, env_id: int, group: str) -> bool:
    """Something failed so, of what is looked at, or it was decided on: there is no group else."""
    return group in error_groups.listed(tx, env_id) or bool(runs_of(tx, env_id, [group], since=0))


def grouped(found: Sequence[Failed]) -> list[Group]:
    by_id: dict[str, Group] = {}
    for run in found:
        failure = _failure(run.error) if run.error else Failure(name=run.status)
        id_ = fingerprint(run.task, failure)
        group = by_id.setdefault(id_, Group(id_, failure.name or failure.code or run.status, failure.message, run.task, sample=failure))
        group.runs.append(run)
    return list(by_id.values())


def standing(decision: Decision | None, runs: Sequence[Failed], now: int) -> str:
    """What a decision is worth after what failed since."""
    if decision is None:
        return "unresolved"
    later = [run for run in runs if (run.finished_at or 0) > decision.at]
    if decision.status == "resolved":
        again = [run for run in later if decision.version is None or _order(run.version or "") >= _order(decision.version)]
        return "regressed" if again else "resolved"
    over = (
        (decision.until_at is not None and now >= decision.until_at)
        or (decision.more is not None and len(later) >= decision.more)
        or (decision.per_hour is not None and _most_in_an_hour(later) > decision.per_hour)
    )
    return "unresolved" if over else "ignored"


def _order(version: str) -> tuple[int, ...]:
    """20261120.10 comes after 20261120.9."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _most_in_an_hour(runs: Sequence[Failed]) -> int:
    times = sorted(run.finished_at or 0 for run in runs)
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - HOUR_MS:
            first += 1
        most = max(most, last - first + 1)
    return most


def decided(env_id: int, group: str, body: dict[str, Any], *, by: str, now: int) -> Decision | None:
    """What a request decides; None: the group is open again.

    Raises:
        Problem: 400, naming the field.
    """
    action = body.get("action")
    if action not in ACTIONS:
        raise invalid(f"action must be one of {', '.join(ACTIONS)}", "action")
    if action == "reopen":
        return None
    reason, version = _text(body, "reason", MAX_REASON), _text(body, "version", 64)
    if action == "resolve":
        return Decision(env_id=env_id, id=group, status="resolved", at=now, version=version, reason=reason, decided_by=by)
    until = _text(body, "until", 100)
    try:
        until_at = None if until is None else now + parse_duration(until)
    except ValueError as error:
        raise invalid(f"until: {error}", "until") from error
    more, per_hour = (_count(body, name) for name in ("more", "perHour"))
    return Decision(
        env_id=env_id, id=group, status="ignored", at=now, until_at=until_at, more=more, per_hour=per_hour, reason=reason, decided_by=by
    )


def _text(body: dict[str, Any], name: str, limit: int) -> str | None:
    value = body.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > limit or "\x00" in value:
        raise invalid(f"{name} must be text of at most {limit} characters", name)
    return value


def _count(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_MORE:
        raise invalid(f"{name} must be a whole number from 1 to {MAX_MORE}", name)
    return value


def decide(tx: Connection, env_id: int, group: str, decision: Decision | None) -> None:
    if decision is None:
        error_groups.forget(tx, env_id, group)
    else:
        error_groups.save(tx, decision)
