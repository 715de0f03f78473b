"""What only real processes show: `def` tasks in threads, runs with a process of their own, code that computes."""

from __future__ import annotations

import time
from typing import Any

from outlast import RunContext, queue, step, sync, task, wait
from tests.simulation.programs import QUICK, plain
from tests.torture import ledger

LEDGER = ledger.from_environment()
ten = queue("torture/ten", concurrency_limit=10)


@task(id="torture.thread", retry=QUICK, queue=ten)
def in_thread(payload: dict[str, Any], ctx: RunContext) -> Any:
    with LEDGER.executing(ctx):
        time.sleep(payload["seconds"])
        return [payload["op"], ctx.attempt.number]


@task(id="torture.thread_waits", retry=QUICK)
def thread_waits(payload: dict[str, Any], ctx: RunContext) -> Any:
    """A step, a wait and a child; the thread stays, the slot does not."""
    with LEDGER.executing(ctx, waits=True):
        LEDGER.saw(ctx, "a", sync.step("a", _blocking_effect, ctx.run.id, "a"))
        sync.wait.for_(seconds=payload["seconds"])
        child = plain.sync.trigger_and_wait({"op": f"{payload['op']}/child", "seconds": 0.2})
        LEDGER.saw(ctx, "child", child.ok)
        LEDGER.saw(ctx, "b", sync.step("b", _blocking_effect, ctx.run.id, "b"))
        return payload["op"]


def _blocking_effect(run_id: str, name: str) -> int:
    return LEDGER.effect(run_id, name, step.idempotency_key)


@task(id="torture.process", retry=QUICK, isolation="process")
async def in_process(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with LEDGER.execution(ctx, waits=True):
        LEDGER.saw(ctx, "a", await step("a", _effect, ctx.run.id, "a"))
        await wait.for_(seconds=payload["seconds"])
        LEDGER.saw(ctx, "b", await step("b", _effect, ctx.run.id, "b"))
        return payload["op"]


async def _effect(run_id: str, name: str) -> int:
    return LEDGER.effect(run_id, name, step.idempotency_key)


@task(id="torture.busy", retry=QUICK)
def busy(payload: dict[str, Any], ctx: RunContext) -> Any:
    """It computes, and never lets its thread go."""
    with LEDGER.executing(ctx):
        until = time.thread_time() + payload["seconds"]
        while time.thread_time() < until:
            sum(range(1_000))
        return [payload["op"], ctx.attempt.number]
