"""The supervisor: owns the session and its lease, starts executors and sees them die. User code never runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.model.limits import HEARTBEAT_MS
from outlast.model.manifest import PROTOCOL, Manifest
from outlast.model.messages import Attach, Attached, Beat, BeatOk, Bye, Drain, Hello, Lost, Rejected, SessionLost, ToWorker, Welcome
from outlast.worker.connection import Connection, ConnectionClosed, Outbox, WebSocketConnection
from outlast.worker.control import Assign, CancelRun, Ready
from outlast.worker.discover import ImportFailure
from outlast.worker.process import ExecutorProcess

log = logging.getLogger("outlast.worker")

DRAIN_SECONDS = 60.0
SAFETY_MS = 5_000  # the worker stops trusting its lease this long before it ends
MAX_RECONNECT_SECONDS = 30.0
RESTART_SECONDS = 0.2  # before an executor that died is started again; doubled while it keeps dying at start
OnDiscovery = Callable[[Manifest, list[ImportFailure]], None]


class WorkerRefused(Exception):
    """The server does not take this worker; the message says why."""


@dataclass(kw_only=True)
class WorkerOptions:
    """What a worker may be told. Slots are per executor."""

    url: str
    key: str
    project: Path
    modules: list[str] | None = None
    executors: int = field(default_factory=lambda: os.cpu_count() or 1)
    async_slots: int = 250
    thread_slots: int = 16
    drain_seconds: float = DRAIN_SECONDS
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    log_format: str | None = None
    promote: bool = True


class Supervisor:
    """One worker. `run` works until `stop`; `reload` replaces the code."""

    def __init__(self, options: WorkerOptions, *, on_discovery: OnDiscovery | None = None) -> None:
        self.options = options
        self.on_discovery = on_discovery
        self.connected = asyncio.Event()
        self._outbox = Outbox()
        self._executors: list[ExecutorProcess] = []
        self._old: set[ExecutorProcess] = set()
        self._manifest: Manifest | None = None
        self._assign: Assign | None = None
        self._session: str | None = None
        self._lease_until = 0.0  # by the clock that also runs while the machine sleeps
        self._stopping = False
        self._numbers = 0
        self._beats = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ---- life

    async def run(self) -> None:
        """Work until `stop` is called.

        Raises:
            WorkerRefused: a wrong key, another protocol, or code that cannot be loaded at all.
        """
        await self._load()
        self._spawn(self._stay_connected())
        self._spawn(self._watch_lease())
        await self._fatal

    async def stop(self, *, now: bool = False) -> None:
        """Take nothing new, let runs end for as long as the drain time, give back the rest, say goodbye."""
        if self._stopping and not now:
            return
        self._stopping = True
        self._outbox.put(Drain())
        seconds = 0.0 if now else self.options.drain_seconds
        await asyncio.gather(*[executor.drain(seconds) for executor in (*self._executors, *self._old)])
        self._outbox.put(Bye())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._outbox.flushed(), 2.0)
        for task in self._tasks:
            task.cancel()
        if not self._fatal.done():
            self._fatal.set_result(None)

    def kill(self) -> None:
        """End every executor at once."""
        for executor in (*self._executors, *self._old):
            executor.kill()

    async def reload(self) -> None:
        """Replace the executors by new ones with today's code; the old ones finish what they have."""
        old, self._executors = self._executors, []
        try:
            await self._load()
        except WorkerRefused as refused:
            log.error("the code cannot be loaded: the old code stays", extra={"reason": str(refused)})
            self._executors = old
            return
        self._old.update(old)
        for executor in old:
            self._spawn(self._retire(executor))
        if self._manifest is not None and self._outbox.is_connected:
            self._outbox.put(self._hello())

    async def _retire(self, executor: ExecutorProcess) -> None:
        await executor.drain(self.options.drain_seconds)
        self._old.discard(executor)

    # ---- executors

    async def _load(self) -> None:
        """Start the executors; the first tells what the code holds, so that only the kinds it needs are started."""
        first = self._executor(async_slots=self.options.async_slots, thread_slots=self.options.thread_slots)
        ready = await first.start()
        if ready is None:
            raise WorkerRefused("the executor ended while it loaded the code: its own output says why")
        self._manifest = ready.manifest
        if self.on_discovery is not None:
            self.on_discovery(ready.manifest, ready.failures)
        kinds = {task.kind for task in ready.manifest.tasks}
        if kinds == {"async", "thread"}:
            # a thread that computes without releasing the interpreter would hold up every coroutine beside it
            first.kill()
            wanted = ["async"] * self.options.executors + ["thread"] * self.options.executors
            started = [self._of_kind(kind) for kind in wanted]
        else:
            started = [self._of_kind(next(iter(kinds), "async")) for _ in range(self.options.executors - 1)]
            self._adopt(first)
        results = await asyncio.gather(*[executor.start() for executor in started])
        for executor, result in zip(started, results, strict=True):
            if result is not None:
                self._adopt(executor)

    def _of_kind(self, kind: str) -> ExecutorProcess:
        if kind == "async":
            return self._executor(async_slots=self.options.async_slots, thread_slots=0)
        return self._executor(async_slots=0, thread_slots=self.options.thread_slots)

    def _executor(self, *, async_slots: int, thread_slots: int) -> ExecutorProcess:
        self._numbers += 1
        o = self.options
        return ExecutorProcess(
            f"x{self._numbers}", o.project, modules=o.modules, async_slots=async_slots, thread_slots=thread_slots, log_format=o.log_format
        )

    def _adopt(self, executor: ExecutorProcess) -> None:
        self._executors.append(executor)
        self._spawn(self._watch(executor))
        if self._assign is not None:
            executor.send(self._assign)

    async def _watch(self, executor: ExecutorProcess, delay: float = RESTART_SECONDS) -> None:
        """See it die, say so at once, and start another."""
        status = await executor.ended()
        self._outbox.put(Lost(executor.name, status))
        if self._stopping or executor.drained or executor not in self._executors:
            self._old.discard(executor)
            return
        log.warning("executor died", extra={"executor": executor.name, "exit": status, "running": executor.running})
        self._executors.remove(executor)
        while not self._stopping:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            following = self._executor(async_slots=executor.async_slots, thread_slots=executor.thread_slots)
            if isinstance(await following.start(), Ready):
                return self._adopt(following)
            delay = min(delay * 2, 10.0)
        return None

    # ---- the server

    async def _stay_connected(self) -> None:
        delay = 0.1
        while True:
            try:
                connection = await WebSocketConnection.open(self.options.url, self.options.key)
                delay = 0.1
                await self._serve(connection)
            except ConnectionClosed as closed:
                if closed.final:
                    return self._fail(str(closed))
                log.info("no connection to the server: trying again", extra={"reason": str(closed)})
            self.connected.clear()
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, MAX_RECONNECT_SECONDS)

    async def _serve(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        helpers = [loop.create_task(self._outbox.run(connection)), loop.create_task(self._beat())]
        try:
            await connection.send([self._hello() if self._session is None else Attach(self._session)])
            while True:
                for message in await connection.receive():
                    self._handle(message)
        finally:
            for helper in helpers:
                helper.cancel()
            self._outbox.stop(connection)
            await connection.close()

    def _hello(self) -> Hello:
        assert self._manifest is not None
        return Hello(PROTOCOL, self.options.name, f"{os.getpid()}-{time.monotonic_ns()}", self._manifest, self.options.promote)

    def _handle(self, message: ToWorker) -> None:
        match message:
            case Welcome():
                self._welcome(message)
            case Attached():
                self._renew(message.lease_ms)
                self.connected.set()
            case BeatOk():
                self._renew(message.lease_ms)
                for run in message.cancel:
                    for executor in self._executors:
                        if executor.name == run.executor:
                            executor.send(CancelRun(run.run_id, run.epoch, 30_000))
            case SessionLost():
                log.warning("the session is over: everything starts anew", extra={"reason": message.reason})
                self._begin_anew()
                raise ConnectionClosed("session lost")
            case Rejected():
                raise ConnectionClosed(message.message, final=True)
            case _:
                log.warning("unexpected message", extra={"kind": type(message).__name__})

    def _welcome(self, welcome: Welcome) -> None:
        self._session = welcome.session
        self._renew(welcome.lease_ms)
        self._assign = Assign(self.options.url, welcome.session, welcome.token, welcome.env == "dev", welcome.env_vars)
        for executor in self._executors:
            executor.send(self._assign)
        self.connected.set()
        log.info("connected", extra={"session": welcome.session, "version": welcome.version, "env": welcome.env})

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_MS / 1_000)
            self._beats += 1
            lags = {executor.name: executor.lag_ms for executor in self._executors}
            self._outbox.put(Beat(self._beats, 0, lags, {}))

    def _renew(self, lease_ms: int) -> None:
        self._lease_until = _boottime() + (lease_ms - SAFETY_MS) / 1_000

    async def _watch_lease(self) -> None:
        """A lease that could not be renewed may be given to others: what runs here must not go on."""
        while True:
            await asyncio.sleep(0.5)
            if self._session is not None and _boottime() > self._lease_until:
                log.error("the lease is over and the server is away: runs here are given up")
                self._begin_anew()

    def _begin_anew(self) -> None:
        self._session = None
        self._assign = None
        self.kill()  # their watchers start new ones

    # ---- odds and ends

    def _fail(self, reason: str) -> None:
        self.kill()
        if not self._fatal.done():
            self._fatal.set_exception(WorkerRefused(reason))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the supervisor failed", exc_info=error)
            self._fail(f"the supervisor failed: {error}")


def _boottime() -> float:
    """A clock that nobody sets and that runs while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()
