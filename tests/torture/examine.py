"""What is looked at when a torture is over: the database, the ledger, what clients remember, the logs, what was left behind."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from outlast.store import check
from outlast.store.database import Connection, Database
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite
from tests.torture.nemesis import Kills
from tests.torture.recovery import recoveries
from tests.torture.report import Report
from tests.torture.workload import TortureWorkload, World

BOUND = 300.0  # seconds after the nemesis until everything must be over
LEFT_SECONDS = 60.0  # an executor whose worker was killed keeps its lease for half of it
UNEXPECTED = (
    "lane counters were wrong",
    "operation failed",
    "a duty of upkeep failed",
    "a work item failed",
    "the rows of an operation kept moving",
    "an attempt could not be run",
)
NOT_IMPORTED = "could not import"  # of the tasks and configuration here: that would be a torture of something else
REFUSED = "a stale write was refused"


def examine(folder: Path, address: str, world: World, workload: TortureWorkload, kills: Kills) -> Report:
    database: Database = Postgres(address) if address.startswith("postgres") else Sqlite(address.removeprefix("sqlite:///"))
    try:
        _wait_until_quiet(database)
        with database.snapshot() as tx:
            found = [str(v) for v in [*check.whole(tx), *check.over_limit(tx)]]
            workload.check(tx)
            problems = [*found, *world.problems, *world.ledger.wrong, *_torn(address), *_logged(folder)]
            report = Report(world.plan, len(workload.operations), *_counts(tx), problems)
            report.kills = {what: len(times) for what, times in kills.at.items()}
            report.refused = _said(folder / "server.log", REFUSED)
            report.recovery, report.slowest = recoveries(folder / "ledger", tx, kills, workload.answered)
            return report
    finally:
        database.close()


def _wait_until_quiet(database: Database) -> None:
    """Children that nobody waits for, cancels to be confirmed."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        with database.reading() as tx:
            runs = tx.all("SELECT 1 FROM runs WHERE execution <> 'FINISHED' AND task <> 'sim.nobody' LIMIT 1")
            if not runs and not tx.all("SELECT 1 FROM work LIMIT 1"):
                return
        time.sleep(0.5)


def _counts(tx: Connection) -> tuple[int, dict[str, int]]:
    statuses = dict(tx.all("SELECT status, count(*) FROM runs GROUP BY status"))
    return sum(statuses.values()), {status: int(n) for status, n in statuses.items()}


def _torn(address: str) -> list[str]:
    """I22: pages and indices of SQLite. The PostgreSQL of tests comes without amcheck."""
    if not address.startswith("sqlite"):
        return []
    with contextlib.closing(sqlite3.connect(address.removeprefix("sqlite:///"))) as connection:
        return [f"I22: {row[0]}" for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").replace('": "', '":"').splitlines()


def _said(log: Path, event: str) -> int:
    return sum(f'"event":"{event}' in line for line in _lines(log))


def _logged(folder: Path) -> list[str]:
    """I21: repairs of counters, and errors that nobody expected."""
    signs = (NOT_IMPORTED, *(f'"event":"{event}' for event in UNEXPECTED))
    lines = [*_lines(folder / "server.log"), *_lines(folder / "worker.log")]
    return [f"I21: {line[:500]}" for line in lines if any(sign in line for sign in signs)][:20]


def left_behind(folder: Path) -> list[str]:
    """I21: processes of this torture that outlive everything that was stopped."""
    until = time.monotonic() + LEFT_SECONDS
    while (found := _alive(folder)) and time.monotonic() < until:
        time.sleep(0.5)
    return [f"I21: process {line} is still there" for line in found]


def _alive(folder: Path) -> list[str]:
    mark, found = f"LEDGER={folder / 'ledger'}".encode(), list[str]()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append(f"{process.name} {(process / 'cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')[:200]}")
        except OSError:
            continue
    return found
