"""Tasks whose effects a test can count: every start and end is a line in a ledger file."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from outlast import Retry, RunContext, queue, task

narrow = queue("narrow", concurrency_limit=2)
single = queue("single", concurrency_limit=1)
wide = queue("wide", concurrency_limit=10)
keyed = queue("keyed", concurrency_limit=1)


def note(event: str, ctx: RunContext) -> None:
    line = f"{event} {ctx.run.id} {ctx.attempt.number} {ctx.queue.name}\n"
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())  # one write: lines of several processes never mix
    os.close(fd)


@task(id="e2e.work.some")
async def some(payload: Any, ctx: RunContext) -> Any:
    note("start", ctx)
    await asyncio.sleep(0.05)
    note("end", ctx)
    return payload


@task(id="e2e.die.once", retry=Retry(max_attempts=1))
async def die_once(payload: str, ctx: RunContext) -> int:
    """Kills its own executor at the first attempt."""
    if ctx.attempt.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return ctx.attempt.number


@task(id="e2e.work.forever")
async def forever(ctx: RunContext) -> None:
    note("start", ctx)
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        note("cancelled", ctx)
        raise


@task(id="e2e.work.thread")
def in_thread(payload: int) -> int:
    return payload * 2


@task(id="e2e.do.nothing")
async def nothing(payload: Any) -> None:
    return None
