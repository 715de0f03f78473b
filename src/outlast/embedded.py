"""`Outlast()`: the whole of it inside your program. Engine in this loop, tasks on a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from msgspec.structs import replace

from outlast import queues, tasks
from outlast.client import connection as connections
from outlast.client.address import Address
from outlast.config import Config
from outlast.model.manifest import Manifest
from outlast.server.connected import ConnectionClosed as ServerSideClosed
from outlast.server.runtime import Options, Runtime
from outlast.worker.connection import ConnectionClosed as WorkerSideClosed
from outlast.worker.inline import InlineWorker
from outlast.worker.surviving import run_surviving

log = logging.getLogger("outlast")

DRAIN_SECONDS = 10.0
SWITCH_INTERVAL = 0.0001  # two busy loops share this interpreter: neither may starve the other


class Outlast:
    """A server and worker in this program: `async with Outlast():`.

    Tasks that are imported when it starts are the ones it runs. Outside of tasks, `trigger_and_wait` simply waits.

    Raises:
        DatabaseUnusable: the database cannot be opened, or another server uses its file.

    Example:
        >>> async with Outlast() as app:  # doctest: +SKIP
        ...     result = await hello.trigger_and_wait("world")
    """

    def __init__(
        self,
        *,
        database: str | None = None,
        data: str | Path = ".outlast",
        schema: str = "outlast",
        config: Config | None = None,
        async_slots: int = 250,
        thread_slots: int = 16,
    ) -> None:
        self._options = Options(database=database, data=Path(data), schema=schema, grace=False)
        self._config = config or Config(retries_in_dev=True)
        self._slots = (async_slots, thread_slots)
        self.runtime: Runtime | None = None
        self._worker: _WorkerThread | None = None
        self._connection: connections.Connection | None = None

    async def start(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        runtime = self.runtime = Runtime(self._options)
        try:
            await runtime.start()
            key = runtime.new_key("dev", "embedded")
            loop = asyncio.get_running_loop()
            transport = _Here(runtime.app, loop)
            self._connection = connections.Connection(
                Address("http://outlast", key), transport=transport, sync_transport=_HereSync(transport)
            )
            connections.use(self._connection)
            self._worker = _WorkerThread(lambda supervisor: self._pair(runtime, loop, supervisor), self._config, self._slots)
            await self._worker.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        if self._worker is not None:
            await self._worker.stop()
        if self._connection is not None:
            connections.stop_using(self._connection)
            await self._connection.close()
        if self.runtime is not None:
            await self.runtime.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncGenerator[None]:
        """For `FastAPI(lifespan=Outlast().lifespan)`."""
        async with self:
            yield

    def _pair(self, runtime: Runtime, loop: asyncio.AbstractEventLoop, supervisor: bool) -> _Half:
        """A channel in memory; its server end is served in the engine's loop. Called in the worker's loop."""
        ours = _Half(asyncio.get_running_loop(), WorkerSideClosed)
        theirs = _Half(loop, ServerSideClosed)
        ours.other, theirs.other = theirs, ours
        env_id = 1 if supervisor else None
        asyncio.run_coroutine_threadsafe(runtime.channel.serve(theirs, env_id), loop)
        return ours


class _Half:
    """One end of a channel in memory, between two loops."""

    def __init__(self, loop: asyncio.AbstractEventLoop, closed: type[Exception]) -> None:
        self.loop = loop
        self.other: _Half | None = None
        self._frames: asyncio.Queue[list[Any] | None] = asyncio.Queue()
        self._closed = closed
        self._over = False

    async def send(self, messages: Sequence[Any]) -> None:
        assert self.other is not None
        if self._over:
            raise self._closed
        self.other.deliver(list(messages))

    def deliver(self, frame: list[Any] | None) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._frames.put_nowait, frame)

    async def receive(self) -> list[Any]:
        frame = await self._frames.get()
        if frame is None:
            self._over = True
            raise self._closed
        return frame

    async def close(self) -> None:
        self._over = True
        if self.other is not None:
            self.other.deliver(None)


class _WorkerThread:
    """The executor's role, with its own standard loop."""

    def __init__(self, connect: Callable[[bool], _Half], config: Config, slots: tuple[int, int]) -> None:
        self._connect = connect
        self._config = config
        self._slots = slots
        self._thread = threading.Thread(target=self._main, name="outlast-executor", daemon=True)
        self._started: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: InlineWorker | None = None
        self._owner: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        self._owner = asyncio.get_running_loop()
        self._started = self._owner.create_future()
        self._thread.start()
        await self._started

    async def stop(self) -> None:
        if self._loop is None or self._worker is None:
            return
        stopping = asyncio.run_coroutine_threadsafe(self._worker.stop(DRAIN_SECONDS), self._loop)
        await asyncio.wrap_future(stopping)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, DRAIN_SECONDS)

    def _main(self) -> None:
        with contextlib.suppress(WorkerSideClosed):
            run_surviving(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worker = InlineWorker(
            self._connect, _manifest(), config=self._config, async_slots=self._slots[0], thread_slots=self._slots[1]
        )
        working = asyncio.create_task(self._worker.run())
        ready = asyncio.create_task(self._worker.ready.wait())
        await asyncio.wait([working, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        assert self._owner is not None
        assert self._started is not None
        error = working.exception() if working.done() else None
        if error is not None:
            self._owner.call_soon_threadsafe(self._started.set_exception, error)
            return
        self._owner.call_soon_threadsafe(self._started.set_result, None)
        await working


def _manifest() -> Manifest:
    """The tasks and queues this program has registered by now."""
    isolated = sorted(task.id for task in tasks.registry.tasks.values() if task.options.isolation)
    if isolated:
        log.warning("isolation= has no effect inside a program: runs of %s share its process", ", ".join(isolated))
    definitions = [replace(task.definition(), kind=task.kind) for task in tasks.registry.tasks.values()]
    shared = [queues.definition(q) for q in queues.registry.values()]
    return Manifest(python=f"{sys.version_info.major}.{sys.version_info.minor}", content_hash="embedded", tasks=definitions, queues=shared)


class _Here(httpx.AsyncBaseTransport):
    """Requests to the app in this process, from whichever loop: they are answered in the engine's."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.loop = loop

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if asyncio.get_running_loop() is self.loop:
            return await self._inner.handle_async_request(request)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.whole(request), self.loop))

    async def whole(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


class _HereSync(httpx.BaseTransport):
    """The same for blocking calls, which come from threads of `def` tasks."""

    def __init__(self, transport: _Here) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        copy = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        return asyncio.run_coroutine_threadsafe(self._transport.whole(copy), self._transport.loop).result()
