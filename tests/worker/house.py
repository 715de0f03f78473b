"""What the worker's tests stand on: a core in memory, and real workers on a project in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from outlast.config import Config
from outlast.model.messages import Done
from outlast.worker.connection import ConnectionClosed
from outlast.worker.core import ExecutorCore
from outlast.worker.options import WorkerOptions
from outlast.worker.supervisor import Supervisor
from tests.worker.desk import PATIENCE, Desk


class Bench:
    """An executor's core in this loop and a desk, connected in memory."""

    def __init__(self, config: Config | None = None, **core: Any) -> None:
        self.desk = Desk()
        options: dict[str, Any] = {"is_dev": False, "async_slots": 10, "thread_slots": 4, **core}
        self.core = ExecutorCore("x1", config=config or Config(), **options)
        self._serving: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        self._serving = asyncio.create_task(self.core.serve(await self.desk.connect(), "s1", "token"))
        await self.desk.until(lambda: any(p.is_open and p.executor for p in self.desk.peers), "a join")
        await self.desk.until(lambda: self.desk.peers[-1].credit.async_slots or self.core.draining or self.core.paused, "credit")

    async def disconnect(self) -> None:
        serving = self._serving
        assert serving is not None
        await self.desk.drop()
        with contextlib.suppress(ConnectionClosed):
            await serving

    async def close(self) -> None:
        self.core.give_back()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await asyncio.sleep(0)

    async def run(self, task: str, payload: Any = None, **fields: Any) -> Done:
        """Push a run and wait for the end of its first attempt."""
        return await self.desk.done(self.desk.push(task, payload, **fields))


def write_project(folder: Path, **modules: str) -> Path:
    """A project with the modules of its package `tasks`; the name `config` is the configuration."""
    package = folder / "tasks"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    for name, text in modules.items():
        path = folder / "outlast_config.py" if name == "config" else package / f"{name}.py"
        path.write_text(textwrap.dedent(text))
    return folder


@contextlib.asynccontextmanager
async def working(desk: Desk, project: Path, **options: Any) -> AsyncIterator[Supervisor]:
    """A real worker with its child processes."""
    drain_seconds = options.pop("drain_seconds", 1.0)
    on_discovery = options.pop("on_discovery", None)
    made = WorkerOptions(
        url=desk.url, key="tr_dev_x", project=project, executors=1, drain_seconds=drain_seconds, log_format="json", **options
    )
    supervisor = Supervisor(made, on_discovery=on_discovery)
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(PATIENCE):
            connected = asyncio.create_task(supervisor.connected.wait())
            await asyncio.wait([connected, running], return_when=asyncio.FIRST_COMPLETED)
            connected.cancel()
        if running.done():
            running.result()
        yield supervisor
    finally:
        await supervisor.stop(now=True)
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def stderr_lines() -> AsyncIterator[asyncio.StreamReader]:
    """What this process and its children write to stderr from here on."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1024 * 1024)
    read, write = os.pipe()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read))
    before = os.dup(2)
    os.dup2(write, 2)
    os.close(write)
    try:
        yield reader
    finally:
        os.dup2(before, 2)
        os.close(before)
        transport.close()


def ended(pid: int) -> asyncio.Future[None]:
    """Done when the process has ended, whoever its parent is."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:  # and was waited for
        gone.set_result(None)
        return gone

    def readable() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        gone.set_result(None)

    loop.add_reader(fd, readable)
    return gone
