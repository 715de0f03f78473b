"""Realtime: 1,000 browsers that each watch a run while 10,000 runs drain; and 5,000 that watch runs where nothing happens."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.house import House, cpu_seconds, pss_kb, queue_state
from benchmarks.load import Pipe, batch_body

WATCHED = 1_000
RUNS = 10_000
IDLE = 5_000
STATUSES = ["PENDING", "EXECUTING", "COMPLETED_SUCCESSFULLY"]


class Watcher:
    """Electric's client as the official package drives it: poll, read, poll on."""

    def __init__(self, house: House, run_id: str) -> None:
        self.statuses: list[str] = []
        self.late_ms: list[float] = []  # from the change's own time, which is before its commit, to here
        self._path = f"/realtime/v1/runs/{run_id}?log=full"
        self._have = "&offset=-1"
        self._house = house
        self._pipe: Pipe | None = None

    async def poll(self) -> None:
        if self._pipe is None:
            self._pipe = await Pipe.open("127.0.0.1", self._house.port)
        body = await self._pipe.send("GET", self._path + self._have, self._house.key)
        now = time.time() * 1_000
        for message in json.loads(body)[:-1]:
            row = message["value"]
            self.statuses.append(row["status"])
            if message["headers"]["operation"] == "update":
                self.late_ms.append(now - _ms(row["updatedAt"]))
        self._have = f"&offset={self._pipe.header('electric-offset')}&handle={self._pipe.header('electric-handle')}&live=true"

    async def follow(self) -> None:
        while self.statuses[-1] != STATUSES[-1]:
            await self.poll()

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()


def _ms(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000


async def subscribers(house: House) -> dict[str, Any]:
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    watchers = [Watcher(house, run_id) for run_id in await queued(house, pipe)]
    took, late = await drained(house, pipe, watchers)
    complete = sum(watcher.statuses == STATUSES for watcher in watchers)
    pipe.close()
    house.stop(worker)
    return {"subscribers": WATCHED, "saw_every_status_in_order": complete, **spread(late), "runs_per_second": round(RUNS / took)}


async def in_browsers(house: House) -> dict[str, Any]:
    """The same, and some of the thousand are in pages of a real Chromium: what is late there is told apart."""
    from benchmarks.browsers import Pages

    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    ids = await queued(house, pipe)
    async with Pages.opened(house) as pages:
        shown = ids[:: WATCHED // pages.capacity][: pages.capacity]
        await pages.watch(shown)
        watchers = [Watcher(house, run_id) for run_id in ids if run_id not in shown]
        took, elsewhere = await drained(house, pipe, watchers)
        seen = await pages.seen()
    complete = sum(watcher.statuses == STATUSES for watcher in watchers) + sum(statuses == STATUSES for statuses, _ in seen)
    pipe.close()
    house.stop(worker)
    late = sorted(ms for _, each in seen for ms in each)
    return {
        "subscribers": WATCHED,
        "in_browsers": len(seen),
        "saw_every_status_in_order": complete,
        **spread(late),
        "others_p99_ms": spread(elsewhere)["p99_ms"],  # what the browser itself adds is the difference
        "runs_per_second": round(RUNS / took),
    }


async def queued(house: House, pipe: Pipe) -> list[str]:
    """10,000 runs in a paused environment; the ids of those that are watched, from first to last."""
    await queue_state(pipe, house)
    await pipe.send("POST", "/api/v1/projects/default/prod/pause", house.key, b"{}")
    ids: list[str] = []
    for _ in range(RUNS // 1_000):
        made = json.loads(await pipe.send("POST", "/api/v2/tasks/batch", house.key, batch_body(1_000)))
        found = json.loads(await pipe.send("GET", f"/api/v2/batches/{made['id']}", house.key))
        ids += found["runs"][:: RUNS // WATCHED]
    return ids[:WATCHED]


async def drained(house: House, pipe: Pipe, watchers: list[Watcher]) -> tuple[float, list[float]]:
    """Let them go: how long it took, and how late each change was seen, sorted."""
    for watcher in watchers:
        await watcher.poll()
    following = [asyncio.ensure_future(watcher.follow()) for watcher in watchers]
    await asyncio.sleep(0.5)  # all polls are held
    began = time.perf_counter()
    await pipe.send("POST", "/api/v1/projects/default/prod/resume", house.key, b"{}")
    await asyncio.wait_for(asyncio.gather(*following), 120)
    took = time.perf_counter() - began
    for watcher in watchers:
        watcher.close()
    return took, sorted(ms for watcher in watchers for ms in watcher.late_ms)


def spread(late: list[float]) -> dict[str, float]:
    return {"p50_ms": round(statistics.median(late), 1), "p99_ms": round(late[len(late) * 99 // 100], 1), "max_ms": round(late[-1], 1)}


async def idle_subscribers(house: House) -> dict[str, Any]:
    """Memory of the server, and what it computes, while 5,000 live polls are held."""
    pipe = await Pipe.open("127.0.0.1", house.port)
    made = json.loads(await pipe.send("POST", "/api/v2/tasks/batch", house.key, batch_body(1_000)))
    ids: list[str] = json.loads(await pipe.send("GET", f"/api/v2/batches/{made['id']}", house.key))["runs"]
    server = house.processes[0].pid
    before = pss_kb(server) / 1024
    watchers = [Watcher(house, ids[i % len(ids)]) for i in range(IDLE)]
    for watcher in watchers:
        await watcher.poll()
    held = [asyncio.ensure_future(watcher.poll()) for watcher in watchers]
    await asyncio.sleep(2)
    pss, began, cpu = pss_kb(server) / 1024, time.perf_counter(), cpu_seconds(server)
    await asyncio.sleep(10)
    used = (cpu_seconds(server) - cpu) / (time.perf_counter() - began)
    for task in held:
        task.cancel()
    for watcher in watchers:
        watcher.close()
    pipe.close()
    return {"subscribers": IDLE, "server_pss_mb": round(pss), "before_mb": round(before), "cpu_percent": round(used * 100, 1)}
