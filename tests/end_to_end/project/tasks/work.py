"""Tasks whose effects a test can count: every start and end is a line in a ledger file."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from outlast import Retry, RunContext, queue, step, task, wait

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


def effect(name: str, run_id: str) -> str:
    line = f"effect {run_id}/{name} {step.idempotency_key}\n"
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)
    return name


@task(id="e2e.wait.child")
async def wait_child(payload: int) -> int:
    await asyncio.sleep(0.02)
    return payload * 2


@task(id="e2e.wait.parent")
async def wait_parent(payload: int, ctx: RunContext) -> list[Any]:
    """Steps, a child, a batch, parallel waits and time; the ledger has each step's key."""
    trace: list[Any] = [await step("first", effect, "first", ctx.run.id)]
    trace.append(await wait_child.trigger_and_wait(payload).unwrap())
    await wait.for_(seconds=1.5)
    both = await asyncio.gather(wait_child.trigger_and_wait(1).unwrap(), wait.for_(seconds=1), step("side", effect, "side", ctx.run.id))
    trace += [both[0], both[2]]
    trace += [r.output for r in (await wait_child.batch_trigger_and_wait([1, 2])).runs]
    trace.append(await step("last", effect, "last", ctx.run.id))
    return trace
