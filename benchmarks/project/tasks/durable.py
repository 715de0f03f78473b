"""Parents that wait, for the scenarios of durable waits."""

from __future__ import annotations

import asyncio
import time

from outlast import step, task, wait


@task(id="bench.run.child")
async def child(payload: int) -> int:
    return payload


@task(id="bench.run.parent")
async def parent(payload: int) -> list[float]:
    """Milliseconds of each of so many children, one after another."""
    times: list[float] = []
    for i in range(payload):
        began = time.perf_counter()
        await child.trigger_and_wait(i)
        times.append((time.perf_counter() - began) * 1_000)
    return times


@task(id="bench.run.fanout")
async def fanout(payload: int) -> float:
    """Seconds from the batch to its last result."""
    began = time.perf_counter()
    result = await child.batch_trigger_and_wait(range(payload))
    assert [run.output for run in result.runs] == list(range(payload))
    return time.perf_counter() - began


async def nothing(n: int) -> int:
    return n


@task(id="bench.run.steps")
async def steps(payload: int) -> float:
    began = time.perf_counter()
    for i in range(payload):
        await step("nothing", nothing, i)
    return time.perf_counter() - began


@task(id="bench.run.many_steps")
async def many_steps(payload: list[int]) -> float:
    """Seconds of so many runs of so many steps each, in children."""
    runs, each = payload
    began = time.perf_counter()
    await steps.batch_trigger_and_wait([each] * runs)
    return time.perf_counter() - began


@task(id="bench.run.sleeper")
async def sleeper(payload: int) -> None:
    await wait.for_(days=1)


@task(id="bench.run.idle")
async def idle(payload: int) -> None:
    await asyncio.sleep(0)
