"""Runs in processes of their own, against a real server: they wait, go cold, die in the middle, and lose nothing."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from outlast.client import requests
from outlast.client.connection import Connection
from tests.databases import Address
from tests.end_to_end.processes import Cluster, until
from tests.end_to_end.test_kills import batch, finished

TASKS = """
    import os, signal
    from typing import Any
    from outlast import Retry, RunContext, step, task, wait
    from outlast.sync import step as sync_step, wait as sync_wait

    def note(event: str, *words: object) -> None:
        with open(os.environ["LEDGER"], "a") as ledger:
            ledger.write(" ".join(map(str, [event, *words])) + chr(10))

    CACHE: dict[str, str] = {}

    @task(id="iso.child")
    async def child(payload: int) -> int:
        return payload * 2

    @task(id="iso.parent", isolation="process")
    async def parent(payload: int, ctx: RunContext) -> list[Any]:
        note("process", ctx.run.id, os.getpid())
        first = await step("first", note, "effect", ctx.run.id, "first")
        doubled = await child.trigger_and_wait(payload).unwrap()
        await wait.for_(seconds=1.5)
        last = await step("last", note, "effect", ctx.run.id, "last")
        return [first, doubled, last, os.getpid()]

    @task(id="iso.blocking", isolation="process")
    def blocking(payload: int, ctx: RunContext) -> list[Any]:
        note("process", ctx.run.id, os.getpid())
        doubled = child.sync.trigger_and_wait(payload).unwrap()
        sync_wait.for_(seconds=1.5)
        sync_step("last", note, "effect", ctx.run.id, "last")
        return [doubled, os.getpid()]

    @task(id="iso.crash", isolation="process", retry=Retry(max_attempts=3, min_timeout=0.1))
    async def crash(payload: int, ctx: RunContext) -> list[Any]:
        known = list(CACHE)
        CACHE[ctx.run.id] = "of this process"
        await step("once", note, "effect", ctx.run.id, "once")
        doubled = await child.trigger_and_wait(payload).unwrap()
        if ctx.attempt.number == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return [doubled, ctx.attempt.number, known]

    @task(id="iso.once", isolation="process", retry=Retry(max_attempts=1))
    async def once(ctx: RunContext) -> None:
        note("begun", ctx.run.id)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "__init__.py").touch()
    (folder / "tasks" / "isolated.py").write_text(textwrap.dedent(TASKS))
    return folder


@pytest.fixture
def isolating(address: Address, tmp_path: Path, project: Path) -> Any:
    found = Cluster(tmp_path, address, project=project)
    yield found
    found.stop()


def pids_of(cluster: Cluster, run_id: str) -> list[int]:
    return [int(line[2]) for line in cluster.lines("process") if line[1] == run_id]


def all_completed(client: Connection, runs: list[str]) -> None:
    until(lambda: finished(client, runs)["COMPLETED"] == len(runs), seconds=60, what=f"{finished(client, runs)} of {len(runs)}")


def test_a_run_waits_in_its_process_and_a_crash_costs_an_attempt(isolating: Cluster) -> None:
    _, port = isolating.server()
    isolating.worker(port, "--executors", "1")
    client = isolating.client(port)
    hot, blocking = batch(client, 2, "iso.parent"), batch(client, 2, "iso.blocking")
    crashed, once = batch(client, 2, "iso.crash", maxAttempts=3), batch(client, 1, "iso.once", maxAttempts=1)
    all_completed(client, hot + blocking + crashed)
    for run_id in hot + blocking:
        found = client.send_sync(requests.retrieve_run(run_id))
        output = found.output
        assert isinstance(output, list)
        assert found.cpu_ms > 0 and (found.peak_memory or 0) > 1_000_000 and found.duration_ms < 2_000, "usage, without the wait"
        assert [output[-1]] == pids_of(isolating, run_id), "it began and ended in one process, begun once"
    effects = Counter(tuple(line[1:]) for line in isolating.lines("effect"))
    assert set(effects.values()) == {1} and len(effects) == 8
    outputs = [client.send_sync(requests.retrieve_run(run_id)).output for run_id in crashed]
    assert outputs == [[0, 2, []], [2, 2, []]], "row 11 of traps: what a process has cached is not there in another"
    until(lambda: finished(client, once)["CRASHED"] == 1, seconds=30, what="the run with one attempt")
    assert len(isolating.lines("begun")) == 1, "max_attempts=1: never begun again"
    client.close_sync()


@pytest.mark.full
def test_a_cold_run_has_no_process_and_goes_on_in_another(isolating: Cluster) -> None:
    _, port = isolating.server()
    isolating.worker(port, "--executors", "1", "--hot-waits", "1")
    client = isolating.client(port)
    runs = batch(client, 3, "iso.parent") + batch(client, 3, "iso.blocking")
    all_completed(client, runs)
    moved = [run_id for run_id in runs if len(set(pids_of(isolating, run_id))) > 1]
    assert len(moved) >= 2, "one may wait hot at a time: the others go on in fresh processes"
    effects = Counter(tuple(line[1:]) for line in isolating.lines("effect"))
    assert set(effects.values()) == {1} and len(effects) == 9
    pids = [pid for run_id in runs for pid in pids_of(isolating, run_id)]
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), seconds=30, what="no process is left")
    client.close_sync()
