"""Servers and workers of the simulation: the real ones, in a process that is only a context."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import httpx

from outlast.config import Config
from outlast.engine.clock import Chance
from outlast.server.runtime import ENVIRONMENTS, Options, Runtime
from outlast.store.database import DatabaseError
from outlast.worker.connection import Connection, ConnectionClosed
from outlast.worker.control import Line, Ready
from outlast.worker.core import ExecutorCore
from outlast.worker.crew import WorkerRefused
from outlast.worker.executor import Executor
from outlast.worker.isolated import IsolatedExecutor
from outlast.worker.options import WorkerOptions
from outlast.worker.parking import WaitLimits
from outlast.worker.process import ExecutorProcess
from outlast.worker.supervisor import Supervisor, Surroundings
from tests.simulation.loop import NODE, NOWHERE, Node
from tests.simulation.nursery import SimulatedNursery
from tests.simulation.programs import manifest

if TYPE_CHECKING:
    from tests.simulation.world import World

PROD = next(id_ for id_, slug, _ in ENVIRONMENTS if slug == "prod")
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # httpx would look for it on disk at each request
LINE_SECONDS = 0.0005  # of the socket pair between a supervisor and its executors
REQUEST_SECONDS = 65.0


class Clock:
    """The database's clock, which all servers of the simulation have; set back it goes on slowly, as the real one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last = 0
        self._seconds = 0.0

    def now(self) -> int:
        seconds = self._world.loop.time()
        passed, self._seconds = seconds - self._seconds, seconds
        self._last = max(self._last + round(passed * 900), self._world.wall_ms())
        return self._last

    def wall(self) -> int:
        return self._world.wall_ms()


class Server:
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.node = Node(name, world.loop)
        self.runtime: Runtime | None = None
        self.is_leaving = False
        self.node.spawn(self._main())

    @property
    def is_up(self) -> bool:
        return self.runtime is not None and self.node.alive

    async def _main(self) -> None:
        world = self.world
        await asyncio.sleep(world.chance.uniform(0.1, 1.0))
        chance = Chance(world.chance.getrandbits(64))
        options = Options(concurrency=world.plan.concurrency, retention_days=None)
        try:
            runtime = Runtime(options, clock=Clock(world), database=world.database_of(self.node), chance=chance)
            runtime.engine._flusher.pause = lambda _: None  # pyright: ignore[reportPrivateUsage]
            await runtime.start()
        except DatabaseError:  # it says so and exits; whoever started it starts it again
            self.node.crash()
            world.loop.call_later(2.0, world.start_server, context=NOWHERE)
            return
        self.runtime = runtime

    def stop(self) -> None:
        """SIGTERM: what was accepted is finished; while it starts, nothing was."""
        is_starting = self.runtime is None and not self.is_leaving
        self.is_leaving = True
        runtime, self.runtime = self.runtime, None
        if is_starting and self.node.alive:
            self.node.crash()
        if runtime is not None and self.node.alive:
            self.node.spawn(self._leave(runtime))

    async def _leave(self, runtime: Runtime) -> None:
        await runtime.close()
        self.node.crash()


class Worker:
    def __init__(self, world: World, name: str, *, hash: str = "1") -> None:
        self.world = world
        self.hash = hash
        self.node = Node(name, world.loop)
        self.executors: list[SimulatedExecutor] = []
        self.supervisor: Supervisor | None = None
        self.is_leaving = False
        self.node.spawn(self._main())

    async def _main(self) -> None:
        plan = self.world.plan
        options = WorkerOptions(
            url="http://sim", key="key", project=Path(), executors=plan.executors, async_slots=plan.slots, drain_seconds=plan.drain_seconds,
            name=self.node.name,
        )  # fmt: skip
        loop = self.world.loop
        join = partial(connect, self.world)
        isolated = partial(IsolatedExecutor, nursery=partial(SimulatedNursery, self), connect=join)
        around = Surroundings(connect=join, executor=self._executor, isolated=isolated, clock=loop.time)
        self.supervisor = Supervisor(options, surroundings=around)
        try:
            await self.supervisor.run()
        except WorkerRefused:  # its first executor died while it loaded the code; whoever starts it starts it again
            if not self.is_leaving:
                loop.call_later(2.0, self.world.start_worker, self.hash, context=NOWHERE)
        self.node.crash()

    def stop(self) -> None:
        """SIGTERM."""
        self.is_leaving = True
        if self.supervisor is not None and self.node.alive:
            self.node.spawn(self.supervisor.stop())

    def _executor(self, name: str, project: Path, **options: Any) -> SimulatedExecutor:
        made = SimulatedExecutor(f"{name}", project, **options)
        made.worker = self
        self.executors = [x for x in self.executors if x.node is None or x.node.alive] + [made]
        return made


class SimulatedExecutor(ExecutorProcess):
    """The supervisor's side of it is the real one; the process is a node."""

    worker: Worker
    node: Node | None = None

    async def start(self) -> Ready | None:
        parent = NODE.get()
        assert parent is not None
        self.node = Node(f"{parent.name}.{self.name}", self.worker.world.loop, parent)
        ours, theirs = _Line(self.node), _Line(parent)
        ours.other, theirs.other = theirs, ours
        self.node.on_death.append(ours.hang_up)
        self.node.spawn(self._main(theirs))
        self._control = ours
        self._spawn(self._listen(ours))
        return await self._ready

    async def _main(self, line: _Line) -> None:
        world = self.worker.world
        await asyncio.sleep(world.chance.uniform(0.1, 0.5))
        plan = world.plan
        limits = WaitLimits(plan.cold_after, plan.hot_waits, None)
        core = ExecutorCore(
            self.name, config=Config(), is_dev=False, async_slots=self.async_slots, thread_slots=self.thread_slots, limits=limits,
            replay_every_wait=plan.replay_every_wait,
        )  # fmt: skip
        executor = Executor(line, core, connect=partial(connect, world))
        line.send(Ready(manifest(self.worker.hash), []))
        await executor.run()

    async def ended(self) -> int | None:
        assert self.node is not None
        await asyncio.shield(self.node.died)
        return -9

    async def end(self) -> None:
        self.kill()

    def kill(self) -> None:
        if self.node is not None:
            self.node.crash()


class _Line:
    """A control line in memory. `node` is the process at the other end, which alone may speak."""

    def __init__(self, node: Node) -> None:
        self.other: _Line | None = None
        self._last = 0.0
        self._node = node
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue()

    def send(self, line: Line) -> None:
        assert self.other is not None
        loop = asyncio.get_running_loop()
        self._last = max(self._last + 1e-9, loop.time() + LINE_SECONDS)  # timers of one moment come in any order
        loop.call_at(self._last, self.other._lines.put_nowait, line, context=NOWHERE)

    async def receive(self) -> Line | None:
        return await self._lines.get()

    def hang_up(self) -> None:
        self._lines.put_nowait(None)

    def close(self) -> None:
        return


class Transport(httpx.AsyncBaseTransport):
    """HTTP to whichever server answers; requests and answers are lost and doubled."""

    def __init__(self, world: World, chance: Random) -> None:
        self._world = world
        self._chance = chance

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        world, chance = self._world, self._chance
        await asyncio.sleep(world.network.latency())
        server = world.some_server()
        if server is None or not server.is_up:
            raise httpx.ConnectError("connection refused")
        copy = httpx.Request(request.method, request.url, headers=request.headers, content=await request.aread())
        if chance.random() < world.plan.http_lost:
            raise httpx.ReadError("the request was lost")
        answer = self._ask(server, copy)
        if chance.random() < world.plan.http_twice:
            self._ask(server, copy)
        await asyncio.wait({answer, server.node.died}, timeout=REQUEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() or chance.random() < world.plan.http_lost:
            raise httpx.ReadError("the answer was lost")
        await asyncio.sleep(world.network.latency())
        return answer.result()

    def _ask(self, server: Server, request: httpx.Request) -> asyncio.Future[httpx.Response]:
        answer: asyncio.Future[httpx.Response] = self._world.loop.create_future()
        server.node.spawn(_serve(server, request, answer))
        return answer


async def _serve(server: Server, request: httpx.Request, answer: asyncio.Future[httpx.Response]) -> None:
    if server.runtime is None:
        return  # it stopped meanwhile
    inner = httpx.ASGITransport(app=server.runtime.app, raise_app_exceptions=False)
    response = await inner.handle_async_request(request)
    assert isinstance(response.stream, AsyncIterable)
    content = b"".join([part async for part in response.stream])
    if not answer.done():
        answer.set_result(httpx.Response(response.status_code, headers=response.headers, content=content))


async def connect(world: World, url: str, key: str | None) -> Connection:
    """A new channel to whichever server the load balancer picks."""
    node = NODE.get()
    assert node is not None
    await asyncio.sleep(world.network.latency())
    server = world.some_server()
    if server is None or not server.is_up or server.node.frozen or world.network.is_cut(node, server.node):
        raise ConnectionClosed(f"no server at {url}")
    assert server.runtime is not None
    ours, theirs = world.network.pair(node, server.node)
    server.node.spawn(server.runtime.channel.serve(theirs, PROD if key is not None else None))
    return ours
