"""`python -m tests.torture.table REPORT.json …`: the table of `docs/reliability.md`, a column for each report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Found = dict[str, Any]


def _counts(*kinds: str) -> Callable[[Found], str]:
    return lambda report: ", ".join(f"{report['kills'].get(kind, 0):,}" for kind in kinds)


def _seconds(what: str) -> Callable[[Found], str]:
    def shown(report: Found) -> str:
        figures = report["recovery"]
        if what not in figures:
            return "–"
        everything = figures.get(f"{what}, all")
        text = f"{figures[what]['p50']:.2g} / {figures[what]['p99']:.2g} s"
        return text if everything is None else f"{text} ({everything['p99']:.2g} s)"

    return shown


ROWS: dict[str, Callable[[Found], str]] = {
    "triggers, runs": lambda report: f"{report['operations']:,}, {report['runs']:,}",
    "killed: workers, executors, servers": _counts("worker killed", "executor killed", "server killed"),
    "workers that stood still for longer than their lease": _counts("worker stopped for longer than its lease"),
    "stale writes refused": lambda report: f"{report['refused']:,}",
    "the database restarted, its connections cut": _counts("database restarted", "database connection killed"),
    "servers that stood still, or were cut off from the database": _counts("server stopped", "server cut off from its database"),
    "partitions, resets": _counts("partition", "connections reset"),
    "drained: workers, servers; new user code": _counts("worker drained", "server drained", "new code deployed"),
    "executor killed → its runs begin again": _seconds("executor killed → its runs start"),
    "worker killed → its runs begin again": _seconds("worker killed → its runs start"),
    "server killed → next answer": _seconds("server killed → next answer"),
    "PostgreSQL restarted → normal rate": _seconds("database restarted → normal rate"),
    "all over, after the last trouble": lambda report: f"{report['after_peace']:.0f} s",
    "lost or wrong": lambda report: f"{len(report['problems'])}",
}


def main() -> None:
    reports: list[Found] = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    print("| | " + " | ".join(Path(name).stem for name in sys.argv[1:]) + " |")
    print("|---" * (len(reports) + 1) + "|")
    for row, shown in ROWS.items():
        print(f"| {row} | " + " | ".join(map(shown, reports)) + " |")


if __name__ == "__main__":
    main()
