"""What a run uses of the machine: active time, CPU time, and memory where it has a process of its own. Behaviour 37 of the engine."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from outlast import task, usage
from outlast.config import Retry
from outlast.errors import AbortTaskRun, OutsideRunError
from tests.worker.desk import Desk
from tests.worker.house import Bench, working, write_project

BUSY = 0.06  # seconds of CPU


def spin(seconds: float = BUSY) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_cpu_of_coroutines_in_one_loop_is_told_apart(bench: Bench) -> None:
    @task(id="busy")
    async def busy() -> None:
        async def branch() -> None:
            await asyncio.sleep(0)
            spin()

        await asyncio.gather(branch(), branch())

    @task(id="idle")
    async def idle() -> float:
        while len(bench.core.held) > 1:
            await asyncio.sleep(0.001)
        return usage.get_current().compute.attempt.cpu_ms

    await bench.connect()
    runs = [bench.desk.push("idle"), bench.desk.push("busy")]
    resting, working = [await bench.desk.done(run) for run in runs]
    assert resting.outcome == working.outcome == "ok"
    assert working.cpu_ms >= 2 * BUSY * 1_000 - 2, "both branches, though each has an asyncio task of its own"
    assert resting.cpu_ms < BUSY * 1_000 and resting.usage_ms >= 2 * BUSY * 1_000 - 2
    assert float(resting.output or 0) <= resting.cpu_ms + 1
    assert resting.peak_memory == 0, "the process is not its own"


async def test_cpu_of_a_thread(bench: Bench) -> None:
    @task(id="threaded")
    def threaded() -> float:
        spin()
        return usage.get_current().compute.attempt.cpu_ms

    await bench.connect()
    end = await bench.run("threaded")
    assert float(end.output or 0) >= BUSY * 1_000 and end.cpu_ms >= BUSY * 1_000 - 1


async def test_measure_says_what_a_part_used(bench: Bench) -> None:
    @task(id="measuring")
    async def measuring() -> list[Any]:
        spin()
        sync = usage.measure(spin, BUSY)

        async def part(text: str) -> str:
            spin()
            await asyncio.sleep(0.05)
            return text

        later = await usage.measure(part, "result")
        whole = usage.get_current().compute.attempt
        return [sync.compute.cpu_ms, later.result, later.compute.cpu_ms, later.compute.duration_ms, whole.cpu_ms]

    await bench.connect()
    sync, result, cpu, duration, whole = json.loads((await bench.run("measuring")).output or "")
    busy = BUSY * 1_000
    assert result == "result" and sync >= busy and cpu >= busy
    assert duration >= busy + 49 and whole >= 3 * busy


async def test_attempts_add_up(bench: Bench) -> None:
    found: list[usage.Usage] = []

    @task(id="again", retry=Retry(max_attempts=2, min_timeout=0.01))
    async def again() -> None:
        spin()
        found.append(usage.get_current())
        raise ValueError("again") if len(found) < 2 else AbortTaskRun("enough")

    await bench.connect()
    run_id = bench.desk.push("again", max_attempts=2)
    first = await bench.desk.done(run_id)
    second = await bench.desk.done(run_id, 2)
    assert (first.outcome, second.outcome) == ("retry", "failed")
    assert second.cpu_ms < 2 * BUSY * 1_000 + 20 and second.cpu_ms >= BUSY * 1_000 - 1, "each reports its own"
    compute = found[1].compute
    assert compute.total.cpu_ms - compute.attempt.cpu_ms == pytest.approx(first.cpu_ms, abs=1)
    assert compute.total.duration_ms - compute.attempt.duration_ms == pytest.approx(first.usage_ms, abs=1)


def test_outside_of_a_task_there_is_nothing_to_measure() -> None:
    with pytest.raises(OutsideRunError, match=r"usage\.get_current\(\)"):
        usage.get_current()
    with pytest.raises(OutsideRunError, match=r"usage\.measure"):
        usage.measure(spin)


ISOLATED = """
    import threading
    from outlast import task, usage

    @task(id="large", isolation="process")
    async def large() -> int:
        kept = bytearray(80_000_000)
        for i in range(0, len(kept), 4096):
            kept[i] = 1
        other = threading.Thread(target=sum, args=(range(3_000_000),))
        other.start()
        other.join()
        return usage.get_current().peak_memory
"""


async def test_a_process_of_its_own_tells_its_memory_and_all_its_threads(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=ISOLATED)):
        await desk.ready("process")
        end = await desk.done(desk.push("large", kind="process"))
    assert end.peak_memory >= 80_000_000 and int(end.output or 0) >= 80_000_000
    assert end.cpu_ms >= 10, "of a thread the task has started, too"
