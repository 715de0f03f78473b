"""`python -m tests.simulation --seed N` replays one seed and tells what happened; `--seeds N` runs many and lists those that broke."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from outlast.interpreter import settle
from tests.databases import postgres_server
from tests.simulation.fresh import use_postgres
from tests.simulation.world import Broken, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="this one, with its story")
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="with --seed: check after each so many commits")
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql"), default="sqlite", help="the second is slower, and the other half of our SQL"
    )
    parser.add_argument("--until-broken", action="store_true", help="stop at the first")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgres_server()) if arguments.database == "postgresql" else None
        sys.exit(_one(arguments, url) if arguments.seed is not None else _many(arguments, url))


def _begin(url: str | None) -> None:
    settle()
    use_postgres(url)


def _one(arguments: argparse.Namespace, url: str | None) -> int:
    _begin(url)
    began = time.perf_counter()
    try:
        report = run(arguments.seed, check_every=arguments.every, say=None if arguments.quiet else print)
    except Broken as broken:
        print(f"BROKEN {broken}")
        return 1
    print(f"{report.plan}")
    print(
        f"seed {arguments.seed} holds: {report.runs} runs, {report.commits} commits, {report.troubles} troubles,"
        f" {report.virtual_seconds:.0f} virtual seconds in {time.perf_counter() - began:.2f}"
    )
    return 0


def attempt(seed: int) -> tuple[int, str]:
    try:
        run(seed)
    except Broken as broken:
        return seed, str(broken)
    except BaseException:
        return seed, traceback.format_exc()
    return seed, ""


def _many(arguments: argparse.Namespace, url: str | None) -> int:
    began = time.perf_counter()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    broken = 0
    with ProcessPoolExecutor(arguments.workers, initializer=_begin, initargs=(url,)) as pool:
        for seed, what in pool.map(attempt, seeds, chunksize=10):
            if what:
                broken += 1
                print(f"seed {seed}: {what[:2_000]}", flush=True)
                if arguments.until_broken:
                    pool.shutdown(wait=False, cancel_futures=True)
                    return 1
    took, work = time.perf_counter() - began, sum(os.times()[2:4])
    print(f"{arguments.seeds} seeds, {broken} broken, {arguments.seeds / took:.1f} a second, {arguments.seeds / work:.1f} a second of CPU")
    return 1 if broken else 0


if __name__ == "__main__":
    main()
