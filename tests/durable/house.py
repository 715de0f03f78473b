"""A server in this loop, executors that die when they are told to, and a clock that jumps to whatever is due."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from outlast import queues as queue_module
from outlast import runs, tasks
from outlast.client import connection as connections
from outlast.client.address import Address as ServerAddress
from outlast.client.connection import Connection as Client
from outlast.config import Config
from outlast.engine import sessions
from outlast.model.manifest import PROTOCOL, Manifest, QueueDefinition
from outlast.model.messages import FromWorker, Hello, Lost, Op, ToWorker, Welcome
from outlast.model.requests import Beats, CloseSession
from outlast.server.connected import ConnectionClosed as ServerSideClosed
from outlast.server.runtime import ENVIRONMENTS, Options, Runtime
from outlast.store.database import Connection as StoreConnection
from outlast.worker.connection import ConnectionClosed
from outlast.worker.core import ExecutorCore
from tests.databases import Address
from tests.engine.house import FakeClock


class End:
    """One end of a channel in memory."""

    def __init__(self, closed: type[Exception]) -> None:
        self.other: End | None = None
        self.frames: asyncio.Queue[list[Any] | None] = asyncio.Queue()
        self._closed = closed

    async def send(self, messages: Sequence[Any]) -> None:
        assert self.other is not None
        self.other.frames.put_nowait(list(messages))

    async def receive(self) -> list[Any]:
        frame = await self.frames.get()
        if frame is None:
            raise self._closed
        return frame

    async def close(self) -> None:
        if self.other is not None:
            self.other.frames.put_nowait(None)


class Mortal:
    """An executor's connection that ends for ever with its `last` operation: that one still reaches the server, no answer comes back."""

    def __init__(self, end: End, last: int | None) -> None:
        self._end = end
        self._left = last
        self.operations = 0
        self.died = asyncio.Event()

    async def send(self, messages: Sequence[FromWorker]) -> None:
        if self.died.is_set():
            raise ConnectionClosed
        for i, message in enumerate(messages):
            if isinstance(message, Op):
                self.operations += 1
                if self.operations == self._left:
                    await self._end.send(messages[: i + 1])
                    self.died.set()
                    self._end.frames.put_nowait(None)
                    raise ConnectionClosed
        await self._end.send(messages)

    async def receive(self) -> list[ToWorker]:
        frame = await self._end.receive()
        if self.died.is_set():
            raise ConnectionClosed
        return frame

    async def close(self) -> None:
        await self._end.close()


class House:
    def __init__(self, runtime: Runtime, clock: FakeClock, env: str) -> None:
        self.runtime = runtime
        self.clock = clock
        self._env = env
        self._supervisor: End | None = None
        self._welcome: Welcome | None = None
        self._spawned: list[asyncio.Task[Any]] = []
        self._names = 0
        self.cores: list[ExecutorCore] = []

    def pair(self, env_id: int | None) -> End:
        ours, theirs = End(ConnectionClosed), End(ServerSideClosed)
        ours.other, theirs.other = theirs, ours
        self.spawn(self.runtime.channel.serve(theirs, env_id))
        return ours

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._spawned.append(task)
        return task

    async def work(self, *, last: int | None = None, **core: Any) -> Mortal:
        """Start an executor. It dies with its `last` operation, and another takes its place."""
        if self._supervisor is None:
            self._supervisor = self.pair(next(id_ for id_, slug, _ in ENVIRONMENTS if slug == self._env))
            await self.release("1")
        assert self._welcome is not None
        self._names += 1
        options: dict[str, Any] = {"is_dev": self._env == "dev", "async_slots": 50, "thread_slots": 8, **core}
        made = ExecutorCore(f"x{self._names}", config=Config(), **options)
        self.cores.append(made)
        connection = Mortal(self.pair(None), last)
        self.spawn(self._serve(made, connection, core))
        return connection

    async def release(self, content_hash: str) -> None:
        """The code of now is a version. Executors that start after this run it."""
        assert self._supervisor is not None
        definitions = [task.definition() for task in tasks.registry.tasks.values()]
        shared = [QueueDefinition(name=q.name, concurrency_limit=q.concurrency_limit) for q in queue_module.registry.values()]
        manifest = Manifest(python="3.11", content_hash=content_hash, tasks=definitions, queues=shared)
        await self._supervisor.send([Hello(PROTOCOL, "w", "b", manifest, True)])
        [self._welcome] = await self._supervisor.receive()

    async def logs(self, run_id: str) -> list[str]:
        """What the run's log says, once something is there."""
        async with asyncio.timeout(30):
            while not (lines := [line.message async for line in runs.logs(run_id)]):
                await asyncio.sleep(0.005)
        return lines

    async def _serve(self, core: ExecutorCore, connection: Mortal, options: dict[str, Any]) -> None:
        assert self._welcome is not None
        assert self._supervisor is not None
        with contextlib.suppress(ConnectionClosed):
            await core.serve(connection, self._welcome.session, self._welcome.token)
        if connection.died.is_set():
            await self._supervisor.send([Lost(core.name, -9)])
            await self.work(**options)

    async def lose(self, core: ExecutorCore) -> None:
        """The supervisor says that this executor died. It goes on, and knows nothing of it."""
        assert self._supervisor is not None
        await self._supervisor.send([Lost(core.name, -9)])

    async def sleep(self) -> None:
        """So long that the worker's lease is over, and what its executors hold with it. The next one to work begins a session."""
        assert self._welcome is not None and self.runtime.upkeep is not None
        await self.runtime.engine.call(sessions.close_session, CloseSession(session=self._welcome.session, lapsed=False))
        await self.runtime.upkeep.sessions()
        for core in self.cores:
            core.abandon_all()
            core.drain()
        self._supervisor = None

    def retire(self) -> None:
        """The executors of now take nothing more: the next one is alone."""
        for core in self.cores:
            core.drain()

    async def until(self, query: str) -> None:
        """Until the query finds something."""
        async with asyncio.timeout(30):
            while not await self.runtime.engine.read(lambda tx: tx.all(query)):
                await asyncio.sleep(0.005)

    async def travel(self) -> None:
        """Whatever is due next is due now, once nothing works or waits for its turn: what those will do comes first."""
        assert self.runtime.upkeep is not None
        while True:
            found = await self.runtime.engine.read(_next_due)
            if found is not None:
                self.clock.at = max(self.clock.at, found)
                if self._supervisor is not None and self._welcome is not None:  # it beats all the time, jumps or not
                    await self.runtime.engine.call(sessions.beat, Beats(session=self._welcome.session))
                await self.runtime.upkeep.timers()
            await asyncio.sleep(0.002)


def _next_due(tx: StoreConnection) -> int | None:
    busy = " AND ".join(f"NOT EXISTS (SELECT 1 FROM {table})" for table in ("entries", "slots", "work"))
    return tx.all(f"SELECT min(due_at) FROM timers WHERE {busy}")[0][0]


@contextlib.asynccontextmanager
async def open_house(address: Address, folder: Path, *, travels: bool = True, env: str = "prod") -> AsyncIterator[House]:
    """`env`: not development unless asked for, where the time to live of ten minutes passes when the clock jumps."""
    clock = FakeClock()
    url = address.url if address.is_postgres else f"sqlite:///{folder / 'outlast.db'}"
    runtime = Runtime(Options(database=url, schema=address.schema, data=folder, grace=False), clock=clock)
    await runtime.start()
    client = Client(ServerAddress("http://x", runtime.new_key(env, "t")), transport=httpx.ASGITransport(app=runtime.app))
    connections.use(client)
    house = House(runtime, clock, env)
    if travels:
        house.spawn(house.travel())
    try:
        yield house
    finally:
        for core in house.cores:
            core.abandon_all()
        for task in house._spawned:  # pyright: ignore[reportPrivateUsage]
            task.cancel()
        await asyncio.gather(*house._spawned, return_exceptions=True)  # pyright: ignore[reportPrivateUsage]
        connections.stop_using(client)
        await client.close()
        await runtime.close()


def drop(address: Address, schema: str) -> None:
    """A schema that was made beside the test's own."""
    if address.is_postgres:
        import psycopg

        with psycopg.connect(address.url, autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())
