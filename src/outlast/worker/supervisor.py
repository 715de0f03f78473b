"""The supervisor: owns the session and its lease, and joins executors to it. User code never runs in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from outlast import faults
from outlast.model.limits import CANCEL_GRACE_MS, HEARTBEAT_MS
from outlast.model.manifest import PROTOCOL, Manifest, digest
from outlast.model.messages import (
    Attach,
    Attached,
    Beat,
    BeatOk,
    Bye,
    Drain,
    DrainPush,
    FromWorker,
    Hello,
    Lost,
    Rejected,
    SessionLost,
    ToWorker,
    Variables,
    Welcome,
)
from outlast.worker.connection import Connection, ConnectionClosed, Outbox, WebSocketConnection
from outlast.worker.control import Assign, CancelRun, Pause
from outlast.worker.crew import Crew, Executor, Loaded, WorkerRefused
from outlast.worker.environment import dotenv_of, environment_of
from outlast.worker.isolated import IsolatedExecutor
from outlast.worker.lease import Lease, boottime
from outlast.worker.memory import memory
from outlast.worker.options import OnDiscovery, WorkerOptions
from outlast.worker.process import ExecutorProcess

__all__ = ["Supervisor", "WorkerOptions", "WorkerRefused"]

log = logging.getLogger("outlast.worker")

MAX_RECONNECT_SECONDS = 30.0
MAX_UNANSWERED_BEATS = 2  # then the connection is taken for dead, while there is time for another before the lease ends
MAX_LOSSES_KEPT = 100


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a supervisor meets of the world. The simulation has one of its own."""

    connect: Callable[[str, str | None], Awaitable[Connection]] = WebSocketConnection.open
    executor: Callable[..., ExecutorProcess] = ExecutorProcess
    isolated: Callable[..., IsolatedExecutor] = IsolatedExecutor
    clock: Callable[[], float] = boottime


class Supervisor:
    """One worker. `run` works until `stop`; `reload` replaces the code."""

    def __init__(
        self, options: WorkerOptions, *, on_discovery: OnDiscovery | None = None, surroundings: Surroundings | None = None
    ) -> None:
        self._around = surroundings or Surroundings()
        self.options = options
        self.on_discovery = on_discovery
        self.connected = asyncio.Event()
        self._outbox = Outbox("supervisor")
        self._crew = Crew(options, on_lost=self._lost, on_refused=self._refused, make=self._around.executor, isolated=self._around.isolated)
        self._manifest: Manifest | None = None
        self._session: str | None = None
        self._older: list[str] = []  # sessions of earlier code, whose runs have not all ended
        self._asked: deque[str] = deque()  # sessions we asked to take up again, in the order of the answers
        self._asked_at = 0.0
        self._hello_due = True
        self._hellos = 0  # not yet answered on this connection
        self._beats_sent: dict[int, float] = {}
        self._losses: list[tuple[str | None, Lost]] = []  # told again after a reconnect: nobody answers them
        self._lease = Lease()
        self._paused = False
        self._stopping = False
        self._beats = 0
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ---- life

    async def run(self) -> None:
        """Work until `stop` is called.

        Raises:
            WorkerRefused: a wrong key, another protocol, or code that cannot be loaded at all.
        """
        try:
            loaded = await self._crew.load()
        except WorkerRefused:
            if self._stopping:
                return  # it was told to stop while it loaded the code
            raise
        if self._stopping:
            await asyncio.gather(*[executor.end() for executor in loaded.executors])
            return
        self._take(loaded)
        self._spawn(self._stay_connected())
        self._spawn(self._watch_lease())
        await self._fatal

    async def stop(self, *, now: bool = False) -> None:
        """Take nothing new, let runs end for as long as the drain time, give back the rest, say goodbye."""
        if self._stopping and not now:
            return
        self._stopping = True
        self._outbox.put(Drain())
        await self._crew.stop(0.0 if now else self.options.drain_seconds)
        self._outbox.put(Bye())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._outbox.flushed(), 2.0)
        for task in self._tasks:
            task.cancel()
        if not self._fatal.done():
            self._fatal.set_result(None)

    def kill(self) -> None:
        """End every executor at once."""
        self._crew.kill()

    def executor_pids(self) -> list[int]:
        """The processes in which user code runs now."""
        return [executor.pid for executor in self._crew.all() if executor.pid is not None]

    async def reload(self) -> None:
        """Replace the executors by new ones with today's code; the old ones finish what they have."""
        async with self._reloading:
            if self._stopping:
                return
            try:
                loaded = await self._crew.load()
            except WorkerRefused as refused:
                log.error("the code cannot be loaded: the old code stays", extra={"reason": str(refused)})
                return
            if self._session is not None:
                self._older.append(self._session)
            self._crew.retire()
            self._take(loaded)
            self._say_hello()

    def _take(self, loaded: Loaded) -> None:
        """Use what was started; it gets a session when the server has given one for this code."""
        self._manifest = loaded.manifest
        self._crew.assignment = None
        self._crew.adopt(loaded.executors)
        if self.on_discovery is not None:
            self.on_discovery(loaded.manifest, loaded.failures)

    def _lost(self, executor: Executor, status: int | None) -> None:
        lost = Lost(executor.name, status)
        self._losses = [*self._losses[-MAX_LOSSES_KEPT:], (executor.session, lost)]
        self._outbox.put(lost)

    def _refused(self, executor: Executor, reason: str) -> None:
        """The server does not take an executor of ours: its token is of no session, so the session is not what we think."""
        if executor.session == self._session:
            log.error("an executor was refused: everything starts anew", extra={"executor": executor.name, "reason": reason})
            self._begin_anew()
            self._say_hello()

    # ---- the server

    async def _stay_connected(self) -> None:
        delay = 1.0  # the first pause is anywhere up to this: workers must not all come back in one moment
        while True:
            connected = False
            try:
                connection = await self._around.connect(self.options.url, self.options.key)
                connected = True
                await self._serve(connection)
            except ConnectionClosed as closed:
                if closed.final:
                    return self._fail(str(closed))
                log.info("no connection to the server: trying again", extra={"reason": str(closed)})
            self.connected.clear()
            if connected:
                delay = 1.0
            await asyncio.sleep(delay * random.random())
            delay = min(delay * 2, MAX_RECONNECT_SECONDS)

    async def _serve(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self._outbox.open(connection)
        helpers = [loop.create_task(self._outbox.run(connection)), loop.create_task(self._beat(connection))]
        try:
            await connection.send(self._greeting())
            while True:
                frame = await connection.receive()
                if faults.drops("supervisor.receive"):
                    raise ConnectionClosed("a frame was lost")
                for message in frame:
                    self._handle(message)
        finally:
            for helper in helpers:
                helper.cancel()
            self._outbox.stop(connection)
            await connection.close()

    def _greeting(self) -> list[FromWorker]:
        """Take up the sessions there are, the newest last, or begin one."""
        self._beats_sent.clear()
        self._asked.clear()
        self._hellos = 0
        self._asked_at = self._around.clock()
        self._older = [session for session in self._older if session in self._crew.sessions_of_old()]
        self._asked.extend(self._older)
        if self._session is not None and self._session not in self._older:
            self._asked.append(self._session)
        greeting: list[FromWorker] = [Attach(session) for session in self._asked]
        if self._hello_due or self._session is None:
            greeting.append(self._hello())
            self._hello_due = True  # until its `welcome` is here
        return greeting

    def _say_hello(self) -> None:
        self._hello_due = True
        if self._outbox.is_connected:
            self._asked_at = self._around.clock()
            self._outbox.put(self._hello())

    def _hello(self) -> Hello:
        assert self._manifest is not None
        self._hellos += 1
        return Hello(PROTOCOL, self.options.name, f"{os.getpid()}-{time.monotonic_ns()}", self._manifest, self.options.promote)

    def _handle(self, message: ToWorker) -> None:
        match message:
            case Welcome():
                self._welcome(message)
            case Variables():
                self._changed(message)
            case Attached():
                self._attached(message)
            case BeatOk():
                self._beat_ok(message)
            case SessionLost():
                self._session_lost(message)
            case Rejected():
                raise ConnectionClosed(message.message, final=True)
            case DrainPush():
                log.info("asked to finish and leave")
                self._spawn(self.stop())
            case _:
                log.warning("unexpected message", extra={"kind": type(message).__name__})

    def _welcome(self, welcome: Welcome) -> None:
        self._hellos -= 1
        if self._hellos > 0:
            return  # the code was replaced while this one was on its way
        self._session = welcome.session
        self._hello_due = False
        self._renew(welcome.lease_ms, self._asked_at)
        env_vars = self._environment(welcome.variables)
        assign = Assign(self.options.url, welcome.session, welcome.token, welcome.env == "dev", env_vars)
        log.info("connected", extra={"session": welcome.session, "version": welcome.version, "env": welcome.env})
        if env_vars != self._crew.env_vars:
            self._spawn(self._with_environment(assign))
        else:
            self._crew.assign(assign)
        self.connected.set()

    def _environment(self, variables: Variables) -> dict[str, str]:
        return environment_of(variables, dotenv_of(self.options.project) if self.options.dotenv else {})

    def _changed(self, variables: Variables) -> None:
        """Runs that start from now on find the new ones; those that execute go on with what they have."""
        if (env_vars := self._environment(variables)) != self._crew.env_vars:
            log.info("variables were changed: loading the code anew")
            self._crew.env_vars = env_vars
            self._spawn(self.reload())

    async def _with_environment(self, assign: Assign) -> None:
        """Code may read its environment while it is imported: what the server sets must be there before."""
        async with self._reloading:
            assert self._manifest is not None
            known = digest(self._manifest)
            self._crew.env_vars = dict(assign.env_vars)
            loaded = await self._crew.load()
            self._crew.dismiss()
            self._take(loaded)
            if digest(loaded.manifest) != known:  # tasks that could not be imported without it
                self._say_hello()
            elif self._session == assign.session:
                self._crew.assign(assign)

    def _attached(self, attached: Attached) -> None:
        session = self._asked.popleft() if self._asked else self._session
        if session != self._session:
            return
        self._renew(attached.lease_ms, self._asked_at)
        log.info("connected again", extra={"session": session})
        for of, lost in self._losses:
            if of == session:
                self._outbox.put(lost)
        self.connected.set()

    def _session_lost(self, message: SessionLost) -> None:
        if self._asked and self._asked[0] != self._session:
            session = self._asked.popleft()
            log.warning("the session of earlier code is over", extra={"session": session, "reason": message.reason})
            return self._crew.kill_session(session)
        log.warning("the session is over: everything starts anew", extra={"reason": message.reason})
        self._begin_anew()
        raise ConnectionClosed("session lost")

    async def _beat(self, connection: Connection) -> None:
        began = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(HEARTBEAT_MS / 1_000)
            if self._crew.is_astray(since=began):
                log.warning("executors do not find the server this worker is connected to: looking for another")
                return await connection.close()
            if len(self._beats_sent) >= MAX_UNANSWERED_BEATS:
                log.warning("the server does not answer: connecting again")
                return await connection.close()
            self._beats += 1
            self._beats_sent[self._beats] = self._around.clock()
            self._outbox.put(Beat(self._beats, memory()[0], {x.name: x.lag_ms for x in self._crew.all()}, {}))

    def _beat_ok(self, answer: BeatOk) -> None:
        asked_at = self._beats_sent.get(answer.n)
        if asked_at is not None:
            self._renew(answer.lease_ms, asked_at)
            self._beats_sent = {n: at for n, at in self._beats_sent.items() if n > answer.n}
        if answer.suspects:
            self._crew.expect_suspects()
        by_name = {x.name: x for x in self._crew.all()}
        for run in answer.cancel:
            executor = by_name.get(run.executor)
            if executor is None:
                continue
            executor.send(CancelRun(run.run_id, run.epoch, CANCEL_GRACE_MS))
            if executor.silent_seconds * 1_000 > CANCEL_GRACE_MS:
                # its loop stands still, it will never hear of it: ending the process is all that is left
                log.error("a cancelled run blocks its executor: ending it", extra={"executor": executor.name, "run_id": run.run_id})
                executor.kill()

    # ---- the lease

    def _renew(self, lease_ms: int, asked_at: float) -> None:
        self._lease.renew(lease_ms, asked_at=asked_at)

    async def _watch_lease(self) -> None:
        """A lease that could not be renewed may be given to others: what runs here must not go on."""
        while True:
            await asyncio.sleep(0.5)
            state = self._lease.state(self._around.clock())
            if state == "over":
                log.error("the lease is over and the server is away: runs here are given up")
                self._begin_anew()
                self._say_hello()  # it may not be away: this process stood still, and the connection outlived it
            elif (in_doubt := state == "in_doubt") != self._paused:
                self._paused = in_doubt
                for executor in self._crew.all():
                    executor.send(Pause(in_doubt))

    def _begin_anew(self) -> None:
        self._outbox.put(Bye())  # our beats must not keep alive what we gave up
        self._session = None
        self._older.clear()
        self._losses.clear()
        self._lease.drop()
        self._paused = False
        self._crew.assignment = None
        self.kill()  # their watchers start new ones

    # ---- odds and ends

    def _fail(self, reason: str) -> None:
        self._stopping = True
        self._crew.is_stopping = True
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
            if not isinstance(error, WorkerRefused):
                log.error("the supervisor failed", exc_info=error)
            self._fail(str(error) if isinstance(error, WorkerRefused) else f"the supervisor failed: {error}")
