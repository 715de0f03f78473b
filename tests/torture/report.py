"""What a torture found: counts, kills, and how long it took until what was killed went on."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.simulation.plan import Plan
from tests.torture import ledger
from tests.torture.nemesis import Kills


@dataclass(slots=True)
class Report:
    plan: Plan
    operations: int
    runs: int
    statuses: dict[str, int]
    problems: list[str]
    kills: dict[str, int] = field(default_factory=dict[str, int])
    recovery: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    after_peace: float = 0.0

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "plan": {"seconds": self.plan.seconds, "operations": self.plan.operations}}

    def text(self) -> str:
        rows = [f"{self.operations} operations, {self.runs} runs: {self.statuses}", f"over {self.after_peace:.1f} s after the last trouble"]
        rows += [f"  {what}: {n}" for what, n in sorted(self.kills.items())]
        rows += [f"  {what}: p50 {r['p50']:.2f} s, p99 {r['p99']:.2f} s of {r['n']:.0f}" for what, r in self.recovery.items()]
        rows += [f"WRONG {problem}" for problem in self.problems[:30]]
        return "\n".join([*rows, f"{len(self.problems)} problems" if self.problems else "lost 0, wrong 0"])


def recoveries(folder: Path, kills: Kills, answered: list[float]) -> dict[str, dict[str, float]]:
    """Seconds from a kill to the next start of the runs that executed there, or to the next answer of a server."""
    starts: dict[str, list[float]] = defaultdict(list)
    open_runs: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)  # by what may be killed → run → since
    ends: dict[str, list[float]] = defaultdict(list)
    for line in ledger.lines(folder):
        at = line["at"] / 1_000
        if line["event"] == "start":
            starts[line["run"]].append(at)
            for place in (("worker", line["worker"]), ("executor", line["pid"])):
                open_runs[place][line["run"]] = at
        elif line["event"] == "end":
            ends[line["run"]].append(at)

    def lost(place: tuple[str, int], at: float) -> list[float]:
        found: list[float] = []
        for run, since in open_runs[place].items():
            if since < at and not any(since <= end <= at for end in ends[run]) and (after := [s for s in starts[run] if s > at]):
                found.append(min(after) - at)
        return found

    times = sorted(answered)
    servers = [*kills.at.get("server killed", []), *kills.at.get("database restarted", [])]
    next_answers = {at: times[i] - at for at in servers if (i := bisect_right(times, at)) < len(times)}
    measured = {
        "worker killed → its runs start": [s for at, pid in kills.workers for s in lost(("worker", pid), at)],
        "executor killed → its runs start": [s for at, pid in kills.executors for s in lost(("executor", pid), at)],
        "server killed → next answer": [next_answers[at] for at in kills.at.get("server killed", []) if at in next_answers],
        "database restarted → next answer": [next_answers[at] for at in kills.at.get("database restarted", []) if at in next_answers],
    }
    return {what: _summary(found) for what, found in measured.items() if found}


def _summary(found: list[float]) -> dict[str, float]:
    ordered = sorted(found)
    return {"n": len(ordered), "p50": ordered[len(ordered) // 2], "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]}
