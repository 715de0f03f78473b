"""The scenarios of durable waits: the tasks measure themselves, over the real channel."""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.house import House, until
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
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await _call(pipe, house, "bench.run.fanout", 100)
    seconds = [await _call(pipe, house, "bench.run.fanout", 1_000) for _ in range(3)]
    pipe.close()
    house.stop(worker)
    return {"seconds": round(statistics.median(seconds), 3), "min_s": round(min(seconds), 3), "max_s": round(max(seconds), 3)}


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
    """Many runs in `wait.for_(days=1)` in one worker, and how fast a new run goes beside them."""
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await _call(pipe, house, "bench.run.idle", 1)
    before = _pss(house)
    item = {"task": "bench.run.sleeper", "payload": "1", "options": {"payloadType": "application/json"}}
    for _ in range(SLEEPERS // 1_000):
        await pipe.send("POST", "/api/v2/tasks/batch", house.key, json.dumps({"items": [item] * 1_000}).encode())

    async def all_wait() -> bool:
        found = json.loads(await pipe.send("GET", "/api/v1/queues/bench.run.sleeper?type=task", house.key))
        return found["queued"] == 0 and found["running"] == 0

    began = time.perf_counter()
    await until(all_wait, seconds=300)
    seconds = time.perf_counter() - began
    after = _pss(house)
    times: list[float] = []
    for _ in range(50):
        at = time.perf_counter()
        await _call(pipe, house, "bench.run.idle", 1)
        times.append((time.perf_counter() - at) * 1_000)
    pipe.close()
    house.stop(worker)
    return {
        "runs": SLEEPERS, "server_mb": [round(before[0]), round(after[0])], "worker_mb": [round(before[1]), round(after[1])],
        "bytes_per_run": round((after[1] - before[1]) * 1024 * 1024 / SLEEPERS), "until_all_wait_s": round(seconds, 1),
        "new_run_p50_ms": round(statistics.median(times), 2),
    }  # fmt: skip


def _pss(house: House) -> tuple[float, float]:
    """(server, worker with its executors) in MB"""
    server, worker = house.processes
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    return _one(server.pid), _one(worker.pid) + sum(_one(int(pid)) for pid in children)


def _one(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
