"""`python -m tests.torture --minutes 3`: real servers, workers and database under a nemesis; afterwards nothing may be lost or wrong."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from outlast.client.address import Address
from tests.simulation.plan import Plan
from tests.simulation.workload import TRIGGERING
from tests.torture import ledger
from tests.torture.cluster import Cluster
from tests.torture.examine import BOUND, examine, left_behind
from tests.torture.load import Meter
from tests.torture.nemesis import Nemesis
from tests.torture.postgres import database
from tests.torture.report import Report
from tests.torture.workload import MIX, DoublingClient, TortureWorkload, World

WARMING = 0.2  # of the time; then its processes have started, and the load is what it is
# top-level triggers a second for each core, while anything is triggered. 5.5 took half of it while nothing broke (`--calm`), 6 should take
# 55 to 60 %. On SQLite 12 took 44 %, but its server is away for a third of the time and its three workers for as long. 5.5 was
# chosen while a defect of upkeep, and two of three workers with old code, took most of the rest: more may be possible
RATES = {"postgresql": 6.0, "sqlite": 5.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--rate", type=float, help="top-level triggers a second")
    parser.add_argument("--calm", action="store_true", help="break nothing: how much of the machine does the load take?")
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
    async with database(folder, arguments.database) as postgres:
        many = postgres is not None
        cluster = Cluster(folder, postgres.url if many else None, servers=3 if many else 1, workers=6 if many else 3)
        meter = Meter([os.getpid(), *([postgres.pid] if many else [])])
        try:
            await cluster.start()
            report = await _broken(folder, cluster, Nemesis(cluster, postgres.restart if many else None), meter, arguments)
        finally:
            await cluster.stop()
        report.problems += await asyncio.to_thread(left_behind, folder)
        return report


async def _broken(folder: Path, cluster: Cluster, nemesis: Nemesis, meter: Meter, arguments: argparse.Namespace) -> Report:
    """The workload under the nemesis, its end in peace, and what there is to say of it."""
    seconds, rate = arguments.minutes * 60, arguments.rate or RATES[arguments.database] * (os.cpu_count() or 1)
    plan = Plan(operations=round(rate * seconds * TRIGGERING), seconds=seconds, kinds=MIX, cancels=0.05)
    client = DoublingClient(Address(f"http://127.0.0.1:{cluster.balancer.port}", cluster.key))
    world = World(arguments.seed, plan, client)
    workload = TortureWorkload(world)
    if not arguments.calm:
        nemesis.start(seconds)
    work, telling = asyncio.create_task(workload.run()), asyncio.create_task(_tell(workload, nemesis))
    await asyncio.sleep(seconds * WARMING)
    meter.begin()
    await asyncio.sleep(seconds * (TRIGGERING - WARMING))
    load = meter.share() if arguments.calm else None
    await asyncio.sleep(seconds * (1 - TRIGGERING))
    await nemesis.stop()
    took = await _peace(work, workload)
    telling.cancel()
    world.ledger = ledger.gather(folder / "ledger")
    report = await asyncio.to_thread(examine, folder, cluster.database, world, workload, nemesis.kills)
    report.after_peace, report.load = took, load
    return report


async def _tell(workload: TortureWorkload, nemesis: Nemesis) -> None:
    """A line each minute: half an hour of silence looks like a hang."""
    for minutes in itertools.count(1):
        await asyncio.sleep(60)
        sent, over = (sum(found) for found in zip(*[(o.is_sent, o.is_over) for o in workload.operations], strict=True))
        troubles = sum(map(len, nemesis.kills.at.values()))
        print(f"{minutes} min: {sent} of {len(workload.operations)} triggered, {over} over, {troubles} troubles", flush=True)


async def _peace(work: asyncio.Task[None], workload: TortureWorkload) -> float:
    """Seconds until everything is over, now that nothing breaks any more."""
    peace = time.time()
    await asyncio.wait([work], timeout=BOUND)
    if not work.done():
        workload.world.wrong(f"I3: not over {BOUND:.0f} s after the last trouble: {workload.open_operations()}")
        work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return time.time() - peace


if __name__ == "__main__":
    main()
