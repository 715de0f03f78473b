"""`outlast dev`: server and worker in one command, with reload when a file changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.cli import serving
from outlast.client.address import dev_note
from outlast.model.manifest import Manifest
from outlast.server.runtime import Runtime
from outlast.settings import Settings
from outlast.worker.discover import ImportFailure
from outlast.worker.supervisor import Supervisor, WorkerOptions, WorkerRefused

NOTE = "dev.json"


@dataclass
class Dev:
    """A running dev server."""

    url: str
    key: str
    supervisor: Supervisor
    working: asyncio.Task[None]
    runtime: Runtime


def dev_key(runtime: Runtime, data: Path) -> str:
    """The key of the last start, as long as the database knows it; else a new one."""
    path = data / NOTE
    with contextlib.suppress(OSError, ValueError):
        key = json.loads(path.read_text()).get("key")
        if isinstance(key, str) and runtime.knows_key(key):
            return key
    return runtime.new_key("dev", "outlast dev")


def write_note(data: Path, note: dict[str, Any]) -> None:
    """The only clear copy of a key; readable by its owner alone."""
    path = data / NOTE
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(note, file)
    temporary.replace(path)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, project: Path, *, quiet: bool = False, modules: list[str] | None = None, replay_every_wait: bool = False
) -> AsyncGenerator[Dev]:
    """Server and worker of a project, until the block is left."""
    listening = serving.bind(settings.host, settings.port)
    try:
        runtime = Runtime(serving.options(settings, open_dashboard=True))
    except BaseException:
        listening.close()
        raise
    await runtime.start()
    data = Path(settings.data)
    host, port = listening.getsockname()[:2]
    url, key = f"http://{host}:{port}", dev_key(runtime, data)
    try:
        async with serving.serving(serving.make(runtime), listening):
            write_note(data, {"url": url, "key": key, "pid": os.getpid()})
            os.environ.update(OUTLAST_API_URL=url, OUTLAST_SECRET_KEY=key)  # executors trigger children through it
            worker = WorkerOptions(
                url=url,
                key=key,
                project=project,
                modules=modules,
                executors=settings.executors,
                async_slots=settings.async_slots,
                thread_slots=settings.thread_slots,
                process_slots=settings.process_slots,
                drain_seconds=2.0,
                log_format=settings.log_format,
                data=data,
                cold_after=settings.cold_after or 0.0,  # a wait that was seen to begin is seen to end
                hot_waits=settings.hot_waits,
                memory_mb=settings.memory_mb,
                replay_every_wait=replay_every_wait,
                dotenv=True,
            )
            supervisor = Supervisor(worker, on_discovery=None if quiet else show_discovery)
            working = asyncio.create_task(supervisor.run())
            try:
                yield Dev(url, key, supervisor, working, runtime)
            finally:
                await supervisor.stop()
                await asyncio.gather(working, return_exceptions=True)
    finally:
        await runtime.close()


def show_discovery(manifest: Manifest, failures: list[ImportFailure]) -> None:
    print(f"{len(manifest.tasks)} tasks: {', '.join(sorted(t.id for t in manifest.tasks)) or 'none found'}", flush=True)
    for failure in failures:
        where = f" in {failure.file}" if failure.file else ""
        print(
            f"could not import {failure.module or 'a task'}{where}; the other modules work\n{failure.traceback}",
            file=sys.stderr,
            flush=True,
        )


async def run_dev(settings: Settings, project: Path, *, replay_every_wait: bool = False) -> None:
    """`outlast dev`: until a signal says stop."""
    stopped = asyncio.Event()
    serving.on_signals(lambda _: stopped.set())
    async with running(settings, project, replay_every_wait=replay_every_wait) as dev:
        print(f"Dashboard  {dev.url}\nKey        {dev.key}", flush=True)
        stop = asyncio.create_task(stopped.wait())
        watching = asyncio.create_task(_watch(project, Path(settings.data), dev.supervisor))
        await asyncio.wait([stop, dev.working], return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        stop.cancel()
        await asyncio.gather(watching, stop, return_exceptions=True)
        if dev.working.done() and isinstance(error := dev.working.exception(), WorkerRefused):
            raise error


async def _watch(project: Path, data: Path, supervisor: Supervisor) -> None:
    """New code at every save of a Python file."""
    from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType] - its stubs leave a type open

    ignored = PythonFilter(ignore_paths=[data.resolve()])
    async for changes in awatch(project, watch_filter=ignored, debounce=200, raise_interrupt=False):
        names = sorted({Path(path).name for _, path in changes})
        print(f"changed: {', '.join(names[:5])}", flush=True)
        await supervisor.reload()


def known_note() -> dict[str, Any] | None:
    return dev_note(Path.cwd())
