"""The scenarios. Each takes a running house and gives the fields of its line."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks import backlog, dashboard, schedules, subscribers, waits
from benchmarks.house import OUTLAST, House, pss_kb, queue_state, register, until
from benchmarks.load import BODY, TRIGGER, Pipe, batch_body

Result = dict[str, Any]


async def enqueue_one(house: House) -> Result:
    """One client over HTTP, one trigger after another."""
    pipe, count = await Pipe.open("127.0.0.1", house.port), 2_000
    await register(pipe, house)
    for _ in range(100):
        await pipe.send("POST", TRIGGER, house.key, BODY)
    began = time.perf_counter()
    for _ in range(count):
        await pipe.send("POST", TRIGGER, house.key, BODY)
    rate = count / (time.perf_counter() - began)
    pipe.close()
    return {"per_second": round(rate), "count": count}


async def enqueue_concurrent(house: House) -> Result:
    """64 callers over HTTP."""
    pipes, each = [await Pipe.open("127.0.0.1", house.port) for _ in range(64)], 200
    await register(pipes[0], house)

    async def caller(pipe: Pipe, n: int) -> None:
        for _ in range(n):
            await pipe.send("POST", TRIGGER, house.key, BODY)

    await asyncio.gather(*[caller(pipe, 10) for pipe in pipes])
    began = time.perf_counter()
    await asyncio.gather(*[caller(pipe, each) for pipe in pipes])
    rate = len(pipes) * each / (time.perf_counter() - began)
    for pipe in pipes:
        pipe.close()
    return {"per_second": round(rate), "count": len(pipes) * each}


async def enqueue_bulk(house: House) -> Result:
    """Batches of 1,000 over HTTP, one after another."""
    pipe, batches, body = await Pipe.open("127.0.0.1", house.port), 10, batch_body(1_000)
    await register(pipe, house)
    await pipe.send("POST", "/api/v2/tasks/batch", house.key, body)
    began = time.perf_counter()
    for _ in range(batches):
        await pipe.send("POST", "/api/v2/tasks/batch", house.key, body)
    rate = batches * 1_000 / (time.perf_counter() - began)
    pipe.close()
    return {"per_second": round(rate), "count": batches * 1_000}


async def drain(house: House) -> Result:
    """10,000 queued no-op runs, one worker with one executor, outputs stored; from the first start to the last end."""
    pipe = await Pipe.open("127.0.0.1", house.port)
    # the version is registered before, and the worker stopped, so that all runs are queued when it starts again
    worker = house.start_worker("--executors", "1")
    await queue_state(pipe, house)
    await pipe.send("POST", "/api/v1/projects/default/prod/pause", house.key, b"{}")
    for _ in range(10):
        await pipe.send("POST", "/api/v2/tasks/batch", house.key, batch_body(1_000))
    assert (await queue_state(pipe, house))["queued"] == 10_000
    began = time.perf_counter()
    await pipe.send("POST", "/api/v1/projects/default/prod/resume", house.key, b"{}")

    async def is_over() -> bool:
        found = await queue_state(pipe, house)
        return found["queued"] == 0 and found["running"] == 0

    await until(is_over, seconds=120)
    rate = 10_000 / (time.perf_counter() - began)
    pipe.close()
    house.stop(worker)
    return {"per_second": round(rate), "count": 10_000}


async def latency(house: House) -> Result:
    """Idle trigger to result seen by the caller, 200 times, over HTTP: trigger, then the long poll."""
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await queue_state(pipe, house)

    async def once() -> float:
        began = time.perf_counter()
        made = json.loads(await pipe.send("POST", TRIGGER, house.key, BODY))
        found = json.loads(await pipe.send("GET", f"/api/outlast/v1/runs/{made['id']}/result?wait=20", house.key))
        assert found["ok"], found
        return (time.perf_counter() - began) * 1_000

    for _ in range(20):
        await once()
    times = sorted([await once() for _ in range(200)])
    pipe.close()
    house.stop(worker)
    return {"p50_ms": round(statistics.median(times), 2), "p99_ms": round(times[197], 2), "min_ms": round(times[0], 2)}


async def memory(house: House) -> Result:
    """Idle server and worker with one executor: proportional memory of all their processes."""
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await queue_state(pipe, house)
    pipe.close()
    processes = [p.pid for p in house.processes]
    children = [int(c) for p in processes for c in Path(f"/proc/{p}/task/{p}/children").read_text().split()]
    megabytes = sum(pss_kb(p) for p in processes + children) / 1024
    house.stop(worker)
    return {"pss_mb": round(megabytes, 1), "processes": len(processes) + len(children)}


async def startup(_: House) -> Result:
    """`import outlast`, `outlast --help`, and `outlast dev` until its worker is connected."""
    imports = _median([sys.executable, "-c", "import outlast"]) - _median([sys.executable, "-c", "pass"])
    help_ms = _median([OUTLAST, "--help"])
    folder = Path(tempfile.mkdtemp(prefix="outlast-bench-dev-"))
    subprocess.run([OUTLAST, "init", str(folder)], check=True, capture_output=True)
    began = time.perf_counter()
    dev = subprocess.Popen(
        [OUTLAST, "dev", str(folder), "--port", "0", "--log-format", "json"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert dev.stderr is not None
    for line in dev.stderr:
        if '"event": "connected"' in line:
            break
    ready = (time.perf_counter() - began) * 1_000
    dev.terminate()
    dev.communicate(timeout=20)
    return {"import_ms": round(imports, 1), "help_ms": round(help_ms, 1), "dev_ready_ms": round(ready)}


def _median(command: list[str]) -> float:
    times: list[float] = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
        times.append((time.perf_counter() - began) * 1_000)
    return statistics.median(times)


SCENARIOS: dict[str, Callable[[House], Coroutine[Any, Any, Result]]] = {
    "enqueue_one": enqueue_one,
    "enqueue_concurrent": enqueue_concurrent,
    "enqueue_bulk": enqueue_bulk,
    "drain": drain,
    "latency": latency,
    "backlog": backlog.backlog,
    "retention": backlog.retention,
    "child_roundtrip": waits.child_roundtrip,
    "fanout": waits.fanout,
    "steps": waits.steps,
    "isolation": waits.isolation,
    "waiting_memory": waits.waiting_memory,
    "subscribers": subscribers.subscribers,
    "subscribers_in_browsers": subscribers.in_browsers,
    "idle_subscribers": subscribers.idle_subscribers,
    "schedules": schedules.schedules,
    "pages": dashboard.pages,
    "viewers": dashboard.viewers,
    "memory": memory,
    "startup": startup,
}
