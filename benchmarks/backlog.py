"""How fast runs are taken off the queue beside very many others, and while old ones are deleted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.house import House, queue_state, register, until
from benchmarks.load import BODY, TRIGGER, Pipe
from benchmarks.seed import count_runs, seed

COUNT = 8_000
LONG = 40_000  # for seconds, in which many steps of retention fall
FINISHED = 5_000_000
Result = dict[str, Any]


async def backlog(house: House) -> Result:
    """Drain with nothing else queued, then with 1,000,000 runs behind and as many finished ones beside: the claim must not notice."""
    pipe = await _begin(house)
    empty = await _rate(pipe, house)
    await asyncio.to_thread(seed, house, queued=1_000_000, finished=1_000_000)
    full = await _rate(pipe, house)
    pipe.close()
    return {"per_second": full, "empty_per_second": empty, "ratio": round(full / empty, 2), "queued": 1_000_000, "finished": 1_000_000}


async def retention(house: House) -> Result:
    """Drain an empty table, then beside 5,000,000 finished runs, then while those are deleted. The ratio is the last to the first."""
    pipe = await _begin(house, LONG)
    empty = await _rate(pipe, house, LONG)
    pipe.close()  # the server would close it: filling takes minutes
    await asyncio.to_thread(seed, house, queued=LONG + 2_000, finished=FINISHED, days_ago=30)
    pipe = await Pipe.open("127.0.0.1", house.port)
    full = await _rate(pipe, house, LONG)
    pipe.close()
    house.stop(house.processes[0])
    house.start_server(OUTLAST_RETENTION_DAYS="7")
    await asyncio.to_thread(seed, house, queued=LONG + 2_000, finished=0)
    there, began = await asyncio.to_thread(count_runs, house), time.perf_counter()
    pipe = await Pipe.open("127.0.0.1", house.port)
    deleting = await _rate(pipe, house, LONG)
    pipe.close()
    deleted = (there - await asyncio.to_thread(count_runs, house)) / (time.perf_counter() - began)
    return {
        "per_second": deleting, "beside_finished_per_second": full, "empty_per_second": empty, "ratio": round(deleting / empty, 2),
        "deleted_per_second": round(deleted), "finished": FINISHED,
    }  # fmt: skip


async def _begin(house: House, count: int = COUNT) -> Pipe:
    pipe = await Pipe.open("127.0.0.1", house.port)
    await register(pipe, house)
    await pipe.send("POST", TRIGGER, house.key, BODY)
    await asyncio.to_thread(seed, house, queued=count + 2_000, finished=0)
    return pipe


async def _rate(pipe: Pipe, house: House, count: int = COUNT) -> int:
    """Runs per second that one worker takes off the queue."""
    before = (await queue_state(pipe, house))["queued"]
    worker = house.start_worker("--executors", "1")

    async def taken(n: int) -> bool:
        return before - (await queue_state(pipe, house))["queued"] >= n

    await until(lambda: taken(1_000), seconds=120)
    began, left = time.perf_counter(), (await queue_state(pipe, house))["queued"]
    await until(lambda: taken(count), seconds=120)
    rate = (left - (await queue_state(pipe, house))["queued"]) / (time.perf_counter() - began)
    house.stop(worker)
    return round(rate)
