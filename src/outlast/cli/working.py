"""`outlast worker`: a supervisor in this process, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import typer

from outlast import faults
from outlast.cli import serving
from outlast.cli.dev import show_discovery
from outlast.cli.output import fail
from outlast.client.address import find
from outlast.settings import Settings
from outlast.worker.log import configure
from outlast.worker.supervisor import Supervisor, WorkerOptions, WorkerRefused


def run_worker(settings: Settings, project: Path, api_url: str | None, *, promote: bool) -> None:
    configure(settings.log_format)
    faults.arm()
    address = find(api_url)
    # executors trigger children through the same server
    os.environ.update(OUTLAST_API_URL=address.url, OUTLAST_SECRET_KEY=address.key)
    options = WorkerOptions(
        url=address.url,
        key=address.key,
        project=project.resolve(),
        executors=settings.executors,
        async_slots=settings.async_slots,
        thread_slots=settings.thread_slots,
        process_slots=settings.process_slots,
        drain_seconds=settings.drain_seconds,
        cold_after=settings.cold_after,
        hot_waits=settings.hot_waits,
        memory_mb=settings.memory_mb,
        log_format=settings.log_format,
        promote=promote,
        data=Path(settings.data),
    )
    try:
        serving.run(lambda: _work(options))
    except WorkerRefused as refused:
        fail(str(refused))
    raise typer.Exit(0)


async def _work(options: WorkerOptions) -> None:
    supervisor = Supervisor(options, on_discovery=show_discovery)
    stopping: set[asyncio.Task[None]] = set()
    # the first signal drains, the second ends everything at once
    serving.on_signals(lambda asked: stopping.add(asyncio.ensure_future(supervisor.stop(now=asked > 1))))
    await supervisor.run()
    await asyncio.gather(*stopping)
