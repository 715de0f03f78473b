"""The nemesis of real processes: each trouble comes by itself, at random times with the mean the specification gives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from tests.torture.cluster import Cluster

RECONNECT_SECONDS = 3.0  # until workers are connected to another server
AWAY_SECONDS = 15.0  # or to the only one: until it lives again, and a worker's pause before its next try is over
STOP_SECONDS = 15.0
CUT_SECONDS = 10.0
BEFORE_SECONDS, AFTER_SECONDS = 15.0, 3.0


@dataclass(slots=True)
class Kills:
    """What was done, and when (seconds of the epoch)."""

    at: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    workers: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])  # with the pid
    executors: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    # from when to when some worker, or any, may not have reached a server
    spans: list[tuple[float, float, int | None]] = field(default_factory=list[tuple[float, float, int | None]])

    def note(self, what: str) -> None:
        self.at.setdefault(what, []).append(time.time())

    def breaks(self, seconds: float, worker: int | None = None) -> None:
        self.spans.append((time.time(), time.time() + seconds, worker))

    def were_broken(self, at: float, pids: Sequence[int]) -> bool:
        return any(begin <= at + 1.0 and at <= end and (who is None or who in pids) for begin, end, who in self.spans)

    def alone(self, at: float) -> bool:
        """Nothing else kept any client or server from another: what is done itself is noted just before its own span begins."""
        return not any(begin <= at + 1.0 and at <= end and who is None for begin, end, who in self.spans if not 0.0 <= begin - at < 0.1)

    def around(self, at: float) -> str:
        near = sorted((time - at, what) for what, times in self.at.items() for time in times if -BEFORE_SECONDS < time - at < AFTER_SECONDS)
        return ", ".join(f"{what} {seconds:+.2f}" for seconds, what in near)


class Nemesis:
    def __init__(self, cluster: Cluster, restart_database: Callable[[], Awaitable[None]] | None) -> None:
        self.cluster = cluster
        self.many = len(cluster.servers) > 1
        self.kills = Kills()
        self._restart = restart_database
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, seconds: float) -> None:
        plan: list[tuple[str, float, Callable[[], Awaitable[None]]]] = [
            ("worker killed", 10, self.kill_worker),
            ("executor killed", 12, self.kill_executor),
            ("server killed", 25 if self.many else 8, self.kill_server),
            ("worker stopped for longer than its lease", 60, self.freeze_worker),
            ("worker drained", 90, self.drain_worker),
            ("server drained", 90, self.drain_server),
            ("connections reset", 30, self.reset),
        ]
        if self._restart is not None:
            plan += [
                ("database restarted", 150, self._restart_database),
                ("database connection killed", 5, self.kill_backend),
                ("partition", 60, self.partition),
                ("server cut off from its database", 120, self.cut_off),
                ("server stopped", 120, self.freeze_server),
            ]
        self._tasks = [asyncio.create_task(self._often(*part)) for part in plan]
        once: list[tuple[str, Callable[[], Awaitable[None]]]] = [("new code deployed", self.cluster.deploy)]
        if self._restart is not None:
            once.append(("database restarted", self._restart_database))  # also when the dice would not have it
        self._tasks += [asyncio.create_task(self._once(random.uniform(0.2, 0.6) * seconds, *part)) for part in once]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        executors = [pid for worker in self.cluster.workers for pid in self.cluster.executors(worker)]
        for pid in [process.pid for process in (*self.cluster.servers.values(), *self.cluster.workers)] + executors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await self.cluster.fill_up()

    async def _restart_database(self) -> None:
        assert self._restart is not None
        self.kills.breaks(STOP_SECONDS)
        await self._restart()

    async def _often(self, what: str, seconds: float, do: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(random.expovariate(1 / seconds))
            self.kills.note(what)
            await do()

    async def _once(self, after: float, what: str, do: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(after)
        self.kills.note(what)
        await do()

    async def kill_worker(self) -> None:
        if self.cluster.workers:
            worker = random.choice(self.cluster.workers)
            self.kills.workers.append((time.time(), worker.pid))
            worker.kill()
            await asyncio.to_thread(worker.wait)
            await self._replace()

    async def kill_executor(self) -> None:
        pids = [pid for worker in self.cluster.workers for pid in self.cluster.executors(worker)]
        if pids:
            pid = random.choice(pids)
            self.kills.executors.append((time.time(), pid))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def kill_server(self) -> None:
        if self.cluster.servers:
            server = random.choice(list(self.cluster.servers.values()))
            self.kills.breaks(RECONNECT_SECONDS if self.many else AWAY_SECONDS)
            server.kill()
            await asyncio.to_thread(server.wait)
            await self._replace()

    async def freeze_worker(self) -> None:
        if self.cluster.workers:
            worker = random.choice(self.cluster.workers)
            pids = [worker.pid, *self.cluster.executors(worker)]
            still = random.uniform(35, 60)
            self.kills.breaks(still + RECONNECT_SECONDS, worker.pid)
            for signal_, seconds in ((signal.SIGSTOP, still), (signal.SIGCONT, 0)):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal_)
                await asyncio.sleep(seconds)

    async def freeze_server(self) -> None:
        """For less or more than PostgreSQL lets it keep its locks."""
        if self.cluster.servers:
            server = random.choice(list(self.cluster.servers.values()))
            still = random.uniform(2, 20)
            self.kills.breaks(still + RECONNECT_SECONDS)
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.sleep(still)
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGCONT)

    async def drain_worker(self) -> None:
        if self.cluster.workers:
            worker = random.choice(self.cluster.workers)
            self.kills.breaks(STOP_SECONDS, worker.pid)
            worker.terminate()
            await self._ended(worker)

    async def drain_server(self) -> None:
        if self.cluster.servers:
            server = random.choice(list(self.cluster.servers.values()))
            self.kills.breaks(STOP_SECONDS)
            server.terminate()
            await self._ended(server)

    async def _ended(self, process: object) -> None:
        await asyncio.to_thread(process.wait)  # type: ignore[attr-defined]
        await self._replace()

    async def _replace(self) -> None:
        await asyncio.sleep(random.uniform(0.0, 2.0))
        await self.cluster.fill_up()

    async def reset(self) -> None:
        self.kills.breaks(RECONNECT_SECONDS)
        self.cluster.balancer.reset(random.choice((0.3, 1.0)))

    async def partition(self) -> None:
        seconds = random.uniform(5, 40)
        self.kills.breaks(seconds + RECONNECT_SECONDS)
        self.cluster.balancer.stand_still(0.5, seconds)

    async def cut_off(self) -> None:
        if self.cluster.gates:
            self.kills.breaks(CUT_SECONDS + RECONNECT_SECONDS)
            random.choice(list(self.cluster.gates.values())).cut(CUT_SECONDS)

    async def kill_backend(self) -> None:
        def kill() -> None:
            with (
                contextlib.suppress(psycopg.Error),
                psycopg.connect(self.cluster.database, autocommit=True, connect_timeout=2) as connection,
            ):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
                    " ORDER BY random() LIMIT 1"
                )

        await asyncio.to_thread(kill)
