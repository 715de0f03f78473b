"""Runs with a process each. A project of its own: a worker with such a task keeps a process to fork from, which no other scenario has."""

from __future__ import annotations

import time

from outlast import task


@task(id="bench.run.isolated", isolation="process")
async def isolated(payload: int) -> int:
    return payload


@task(id="bench.run.isolated_many")
async def isolated_many(payload: int) -> float:
    """Seconds of so many runs with a process each."""
    began = time.perf_counter()
    result = await isolated.batch_trigger_and_wait(range(payload))
    assert [run.output for run in result.runs] == list(range(payload))
    return time.perf_counter() - began
