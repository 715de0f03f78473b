"""The scenarios of durable waits: the tasks measure themselves, over the real channel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.house import ISOLATED, PROJECT, House, until
from benchmarks.load import Pipe

Result = dict[str, Any]
SLEEPERS = int(os.environ.get("BENCH_SLEEPERS", "20000"))


async def _call(pipe: Pipe, house: House, task: str, payload: Any) -> Any:
    """Trigger, wait, and give the output."""
    body = json.dumps({"payload": json.dumps(payload), "options": {"payloadType": "application/json"}}).encode()
    made = json.loads(await pipe.send("POST", f"/api/v1/tasks/{task}/trigger", house.key, body))
    while True:
        found = json.loads(await pipe.send("GET", f"/api/outlast/v1/runs/{made['id']}/result?wait=20", house.key))
        if found["done"]:
            assert found["ok"], found
            return json.loads(found.get("output", "null"))


async def child_roundtrip(house: House) -> Result:
    """A parent waits for 200 children, one after another."""
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await _call(pipe, house, "bench.run.parent", 20)
    times = sorted(await _call(pipe, house, "bench.run.parent", 200))
    pipe.close()
    house.stop(worker)
    return {"p50_ms": round(statistics.median(times), 2), "p99_ms": round(times[197], 2), "min_ms": round(times[0], 2)}


async def fanout(house: House) -> Result:
    """1,000 children and wait for all."""
    seconds = await _three_of_a_thousand(house, "bench.run.fanout", 100, PROJECT)
    return {"seconds": round(seconds[1], 3), "min_s": round(seconds[0], 3), "max_s": round(seconds[2], 3)}


async def isolation(house: House) -> Result:
    """1,000 no-op runs with isolation="process": from their batch to the last result, a process forked for each."""
    rates = [round(1_000 / s) for s in await _three_of_a_thousand(house, "bench.run.isolated_many", 50, ISOLATED)]
    return {"per_second": rates[1], "min": rates[2], "max": rates[0]}


async def _three_of_a_thousand(house: House, task: str, warm_up: int, project: Path) -> list[float]:
    """Seconds of three runs that each wait for a thousand, the fastest first."""
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1", project=project)
    await _call(pipe, house, task, warm_up)
    seconds = sorted([await _call(pipe, house, task, 1_000) for _ in range(3)])
    pipe.close()
    house.stop(worker)
    return seconds


async def steps(house: House) -> Result:
    """1,000 steps in one run; 100 steps in each of 100 runs."""
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await _call(pipe, house, "bench.run.steps", 100)
    one = await _call(pipe, house, "bench.run.steps", 1_000)
    many = await _call(pipe, house, "bench.run.many_steps", [100, 100])
    pipe.close()
    house.stop(worker)
    return {"one_run_per_second": round(1_000 / one), "hundred_runs_per_second": round(10_000 / many)}


async def waiting_memory(house: House) -> Result:
    """Many runs in `wait.for_(days=1)` in one worker, how fast a new run goes beside them, and what a crash of everything costs."""
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await _call(pipe, house, "bench.run.idle", 1)
    before = _pss(house)
    peak = [0.0, 0.0]
    watching = asyncio.create_task(_watch(house, peak))
    item = {"task": "bench.run.sleeper", "payload": "1", "options": {"payloadType": "application/json"}}
    began = time.perf_counter()
    for _ in range(SLEEPERS // 1_000):
        await pipe.send("POST", "/api/v2/tasks/batch", house.key, json.dumps({"items": [item] * 1_000}).encode())

    async def all_wait() -> bool:
        found = json.loads(await pipe.send("GET", "/api/v1/queues/bench.run.sleeper?type=task", house.key))
        return found["queued"] == 0 and found["running"] == 0

    await until(all_wait, seconds=300)
    seconds = time.perf_counter() - began
    times: list[float] = []
    for _ in range(200):
        at = time.perf_counter()
        await _call(pipe, house, "bench.run.idle", 1)
        times.append((time.perf_counter() - at) * 1_000)
    watching.cancel()
    after, waiting = _pss(house), _waiting(house)
    pipe.close()
    for process in list(house.processes):
        house.kill(process)
    at = time.perf_counter()
    house.start_server()
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await _call(pipe, house, "bench.run.idle", 1)
    restart = time.perf_counter() - at
    again = _waiting(house)
    pipe.close()
    house.stop(worker)
    times.sort()
    return {
        "runs": SLEEPERS, "server_mb": [round(before[0]), round(after[0])], "worker_mb": [round(before[1]), round(after[1])],
        "peak_mb": [round(mb) for mb in peak], "bytes_per_run": round((peak[1] - before[1]) * 1024 * 1024 / SLEEPERS),
        "until_all_wait_s": round(seconds, 1), "new_run_p50_ms": round(times[100], 2), "new_run_p99_ms": round(times[197], 2),
        "waiting": [waiting, again], "restart_to_first_run_s": round(restart, 2),
    }  # fmt: skip


async def _watch(house: House, peak: list[float]) -> None:
    """The most that server and worker had, looked at four times a second."""
    while True:
        for i, megabytes in enumerate(_pss(house)):
            peak[i] = max(peak[i], megabytes)
        await asyncio.sleep(0.25)


def _waiting(house: House) -> int:
    query = "SELECT count(*) FROM {}runs WHERE execution = 'SUSPENDED'"
    if house.database.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(house.database.removeprefix("sqlite:///"))) as database:
            return database.execute(query.format("")).fetchone()[0]
    import psycopg

    with psycopg.connect(house.database) as connection:
        return connection.execute(query.format("outlast.").encode()).fetchall()[0][0]


def _pss(house: House) -> tuple[float, float]:
    """(server, worker with its executors) in MB"""
    server, worker = house.processes
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    return _one(server.pid), _one(worker.pid) + sum(_one(int(pid)) for pid in children)


def _one(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # an executor that was replaced
        return 0.0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) / 1024
