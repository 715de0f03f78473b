"""What a torture found: counts, kills, and how long it took until what was killed went on."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.simulation.plan import Plan


@dataclass(slots=True)
class Report:
    plan: Plan
    operations: int
    runs: int
    statuses: dict[str, int]
    problems: list[str]
    kills: dict[str, int] = field(default_factory=dict[str, int])
    recovery: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    slowest: list[str] = field(default_factory=list[str])
    after_peace: float = 0.0
    refused: int = 0  # stale writes
    load: float | None = None  # share of all cores, when nothing was broken

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "plan": {"seconds": self.plan.seconds, "operations": self.plan.operations}}

    def text(self) -> str:
        rows = [f"{self.operations} operations, {self.runs} runs: {self.statuses}", f"over {self.after_peace:.1f} s after the last trouble"]
        rows += [f"the load takes {self.load:.0%} of {os.cpu_count()} cores"] if self.load is not None else []
        rows += [f"stale writes refused: {self.refused}"]
        rows += [f"  {what}: {n}" for what, n in sorted(self.kills.items())]
        rows += [f"  {what}: p50 {r['p50']:.2f} s, p99 {r['p99']:.2f} s of {r['n']:.0f}" for what, r in self.recovery.items()]
        rows += [f"slow: {story}" for story in self.slowest]
        rows += [f"WRONG {problem}" for problem in self.problems[:30]]
        return "\n".join([*rows, f"{len(self.problems)} problems" if self.problems else "lost 0, wrong 0"])
