"""A process for each run: real workers, forks, crashes, limits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from outlast import Outlast, task
from outlast.config import Config
from outlast.errors import ConfigurationError
from outlast.model.messages import Attach, Done, HeldRun, Lost, Release
from outlast.worker import crew, supervisor
from tests.worker.desk import Desk
from tests.worker.house import ended, working, write_project

TASKS = """
    import asyncio, os, random, resource, signal, subprocess, sys, time, uuid
    from outlast import hooks, task
    from outlast.config import Retry

    @task(id="pid", isolation="process")
    async def pid() -> tuple[int, int, float]:
        print("from a run")
        return os.getpid(), os.getpgid(0), random.random()

    @task(id="in.thread", isolation="process")
    def in_thread(payload: int) -> int:
        print("from a thread")
        return payload * 2

    @task(id="large", isolation="process")
    def large() -> str:
        return "x" * 10_000_000

    @task(id="die", isolation="process")
    async def die(payload: str) -> None:
        print("dying")
        if payload == "exit":
            os._exit(3)
        os.kill(os.getpid(), getattr(signal, payload))

    @task(id="die.again", isolation="process", retry=Retry(max_attempts=3, min_timeout=0.5, randomize=False))
    async def die_again() -> None:
        os._exit(4)

    @task(id="hang", isolation="process", max_duration=5)
    async def hang() -> None:
        print("hanging", os.getpid(), flush=True)
        while True:
            pass

    @task(id="wait", isolation="process")
    async def wait() -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(os.getpid(), child.pid)
        await asyncio.Event().wait()

    ENDABLE = "import signal, sys; print([signal.getsignal(n) in (signal.SIG_DFL, signal.default_int_handler) for n in (2, 15)])"

    @task(id="hearing", isolation="process")
    def hearing() -> list[str]:
        return _hearing()

    @task(id="hearing.shared")
    def hearing_shared() -> list[str]:
        return _hearing()

    def _hearing() -> list[str]:
        # what a program and a fork that it starts do at SIGINT and SIGTERM; and what this process does
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        forked = os.fork()
        if forked == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        died = os.WTERMSIG(os.waitpid(forked, 0)[1])
        return [subprocess.run([sys.executable, "-c", ENDABLE], capture_output=True, text=True).stdout.strip(), str(died)]

    @task(id="busy", isolation="process", max_duration=5)
    async def busy() -> None:
        began = time.process_time()
        while time.process_time() - began < 0.2:
            pass
        print("busy")
        os.kill(os.getpid(), signal.SIGKILL)

    @task(id="polite", isolation="process")
    async def polite() -> None:
        print("begun")
        await asyncio.Event().wait()

    @polite.on_cancel
    async def said(payload):
        print("cancelled politely")

    @task(id="open.all", isolation="process")
    async def open_all() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        kept = []
        while True:
            kept.append(open(os.devnull))

    @task(id="fork.many", isolation="process")
    def fork_many() -> list[int]:
        forked = []
        for _ in range(200):
            forked.append(os.fork())
            if forked[-1] == 0:
                time.sleep(600)
        return forked

    @task(id="kill.group", isolation="process")
    async def kill_group() -> None:
        os.kill(0, signal.SIGKILL)

    @task(id="greedy", isolation="process", machine="micro")
    def greedy() -> int:
        return len(b"x" * 400_000_000)

    @task(id="shared")
    async def shared() -> int:
        return os.getpid()
"""


async def test_each_run_has_a_process_of_its_own(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)) as worker:
        await desk.ready("process")
        assert desk.executor("process").credit.process_slots == 16
        ends = [await desk.done(desk.push("pid", kind="process")) for _ in range(3)]
        found = [json.loads(end.output or "") for end in ends]
        pids = {pid for pid, _, _ in found}
        assert len(pids) == 3 and not pids & {os.getpid(), *worker.executor_pids()}
        assert all(pid == group for pid, group, _ in found), "a group of its own"
        assert len({number for _, _, number in found}) == 3, "random numbers are not those of the zygote"
        assert "from a run" in desk.texts(ends[0].run_id)
        await desk.ready("async")
        assert int((await desk.done(desk.push("shared"))).output or 0) not in pids


async def test_def_tasks_and_large_outputs(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        small, large = desk.push("in.thread", 21, kind="process"), desk.push("large", kind="process")
        assert (await desk.done(small)).output == "42" and "from a thread" in desk.texts(small)
        assert len((await desk.done(large)).output or "") == 10_000_002


DEATHS = (
    ("exit", "TASK_PROCESS_EXITED_WITH_NON_ZERO_CODE", "status 3"),
    ("SIGSEGV", "TASK_PROCESS_SIGSEGV", "SIGSEGV"),
    ("SIGKILL", "TASK_PROCESS_EXITED_WITH_NON_ZERO_CODE", "SIGKILL"),
)


async def test_a_process_that_dies_costs_its_run_alone(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        beside = desk.push("polite", kind="process")
        await desk.line(beside, "begun")
        for how, code, text in DEATHS:
            end = await desk.done(desk.push("die", how, kind="process"))
            assert end.error is not None
            assert (end.outcome, end.error.code) == ("crashed", code) and text in end.error.message
            assert "dying" in desk.texts(end.run_id), "what it said last is not lost"
        assert not desk.of(Lost) and not desk.dones(beside)
        await desk.cancel(beside, kind="process")
        assert (await desk.done(beside)).outcome == "cancelled"


async def test_a_lost_process_is_another_attempt_while_there_are_any(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        first = await desk.done(desk.push("die.again", kind="process", run_id="run_a"))
        assert (first.outcome, first.retry_delay_ms) == ("lost", 500)
        desk.push("die.again", kind="process", run_id="run_a", attempt=3, epoch=2)
        assert (await desk.done("run_a", 2)).outcome == "crashed"


@pytest.mark.full  # its code is given five seconds to stop
async def test_code_that_blocks_is_killed_after_max_duration(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        run_id = desk.push("hang", kind="process", max_duration=0.5)
        gone = ended(int((await desk.line(run_id, "hanging")).message.split()[1]))
        end = await desk.done(run_id)
        assert end.error is not None
        assert (end.outcome, end.error.code) == ("timed_out", "MAX_DURATION_EXCEEDED")
        await gone


async def test_cancel_runs_the_hooks_and_kills_what_does_not_stop(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        polite, hung = desk.push("polite", kind="process"), desk.push("hang", kind="process")
        await desk.line(polite, "begun")
        gone = ended(int((await desk.line(hung, "hanging")).message.split()[1]))
        await desk.cancel(polite, kind="process")
        await desk.cancel(hung, grace_ms=100, kind="process")
        assert (await desk.done(polite)).outcome == "cancelled" and "cancelled politely" in desk.texts(polite)
        assert (await desk.done(hung)).outcome == "cancelled"
        await gone


async def test_nothing_of_a_run_outlives_its_process(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        run_id = desk.push("wait", kind="process")
        found = (await desk.until(lambda: desk.lines(run_id), "pids"))[0].message.split()
        gone = [ended(int(pid)) for pid in found]
        await desk.cancel(run_id, kind="process")
        await desk.done(run_id)
        await asyncio.gather(*gone)
        await desk.done(desk.push("kill.group", kind="process"))
        assert (await desk.done(desk.push("pid", kind="process"))).outcome == "ok", "its group was its own"


async def test_point_49_a_run_without_a_free_descriptor_fails_alone(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        other = desk.push("polite", kind="process")
        await desk.until(lambda: desk.lines(other), "its line")
        end = await desk.done(desk.push("open.all", kind="process"))
        assert end.error is not None
        assert (end.outcome, end.error.name) == ("failed", "OSError") and "Too many open files" in end.error.message
        assert (await desk.done(desk.push("pid", kind="process"))).outcome == "ok"
        assert not desk.of(Lost)


async def test_point_49_a_run_that_forks_on_and_on_is_ended_with_all_it_forked(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        forked = json.loads((await desk.done(desk.push("fork.many", kind="process"))).output or "")
        assert len(forked) == 200
        await asyncio.gather(*[ended(pid) for pid in forked])
        assert (await desk.done(desk.push("pid", kind="process"))).outcome == "ok"


async def test_memory_beyond_the_machine_is_named(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        end = await desk.done(desk.push("greedy", kind="process"))
        assert end.error is not None
        assert (end.outcome, end.error.code) == ("crashed", "TASK_PROCESS_OOM_KILLED") and "256 MB" in end.error.message


async def test_in_development_a_machine_limits_nothing(desk: Desk, tmp_path: Path) -> None:
    desk.env = "dev"
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        assert (await desk.done(desk.push("greedy", kind="process"))).output == "400000000"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()", "module tasks.more starts a thread"),
        ("import socket\nkept = socket.socketpair()", "module tasks.more opens a connection"),
    ],
)
async def test_a_zygote_that_must_not_be_forked_starts_interpreters(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture, more: str, why: str
) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS, more=more)):
        await desk.ready("process")
        assert (await desk.done(desk.push("in.thread", 4, kind="process"))).output == "8"
    [warning] = [record for record in caplog.records if "cannot be forked" in record.message]
    assert why in warning.__dict__["reason"]


async def test_a_killed_zygote_is_reported_and_replaced(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)) as worker:
        await desk.ready("process")
        run_id = desk.push("hang", kind="process")
        pid = int((await desk.line(run_id, "hanging")).message.split()[1])
        waiting = desk.push("wait", kind="process")
        pids = (await desk.until(lambda: desk.lines(waiting), "pids"))[0].message.split()
        left = [ended(int(one)) for one in pids]
        name, gone = desk.executor("process").executor, ended(pid)
        parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        assert parent in worker.executor_pids()
        os.kill(parent, signal.SIGKILL)
        assert (await desk.first(Lost)).executor == name
        await asyncio.gather(gone, *left)  # also what a run had started
        await desk.until(lambda: any(p.is_open and p.room("process") and p.executor != name for p in desk.peers), "another")
        assert (await desk.done(desk.push("in.thread", 1, kind="process"))).output == "2"


@pytest.mark.parametrize(("name", "kind"), [("hearing", "process"), ("hearing.shared", "thread")])
async def test_what_a_task_starts_can_be_ended_by_signals(desk: Desk, tmp_path: Path, name: str, kind: Any) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready(kind)
        end = await desk.done(desk.push(name, kind=kind))
        assert json.loads(end.output or "") == ["[True, True]", "15"], "and its own process does not hear them"


async def test_what_a_killed_process_used_is_known(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        end = await desk.done(desk.push("busy", kind="process"))
        assert end.outcome == "crashed" and end.cpu_ms >= 200 and end.peak_memory > 5_000_000


async def test_results_survive_a_lost_connection(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS)):
        await desk.ready("process")
        running, over = desk.push("polite", kind="process"), "run_over"
        await desk.line(running, "begun")
        desk.answers = False
        desk.push("in.thread", 5, kind="process", run_id=over)
        await desk.done(over)
        desk.answers = True
        await desk.drop()
        assert (await desk.done(over, 2)).output == "10"
        held = [m.held for m in desk.received if type(m).__name__ == "Join" and m.held]  # type: ignore[attr-defined]
        name = held[-1][0].executor
        assert {(h.run_id, h.epoch) for h in held[-1]} == {(running, 1), (over, 1)} and held[-1][0] == HeldRun(running, 1, 1, name)
        await desk.ready("process")
        await desk.cancel(running, kind="process")
        assert (await desk.done(running)).outcome == "cancelled"


async def test_at_drain_runs_are_given_back_and_their_processes_ended(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, isolated=TASKS), drain_seconds=0.2) as worker:
        await desk.ready("process")
        run_id = desk.push("wait", kind="process")
        pids = (await desk.until(lambda: desk.lines(run_id), "pids"))[0].message.split()
        gone = [ended(int(pid)) for pid in pids]
        await worker.stop()
        await asyncio.gather(*gone)
    assert [(r.run_id, r.reason) for r in desk.of(Release)] == [(run_id, "drain")]
    assert not desk.of(Done)


async def test_inside_a_program_the_option_has_no_effect_and_a_warning_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @task(id="alone", isolation="process")
    async def alone() -> int:
        return os.getpid()

    async with Outlast(data=tmp_path, config=Config()):
        assert (await alone.trigger_and_wait()).unwrap() == os.getpid()
    assert any("isolation= has no effect" in record.getMessage() and "alone" in record.getMessage() for record in caplog.records)


def test_an_isolation_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="isolation='thread'"):
        task(isolation="thread")(lambda: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_a_worker_that_is_stopped_leaves_no_process_that_was_about_to_start(desk: Desk, tmp_path: Path, turns: int) -> None:
    async with working(desk, write_project(tmp_path, plain="from outlast import task\n\n@task\nasync def plain(): ...")) as worker:
        await desk.ready()
        worker._crew.expect_suspects()  # pyright: ignore[reportPrivateUsage] - as the answer to a beat does
        for _ in range(turns):
            await asyncio.sleep(0)
    pid = os.getpid()
    assert not [child for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if _is_zygote(child)]


def _is_zygote(pid: str) -> bool:
    command = Path(f"/proc/{pid}/cmdline")
    return command.exists() and "outlast.worker.zygote" in command.read_text()


async def test_seed_2898_a_worker_whose_late_executor_is_sent_away_everywhere_moves(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server is one that a balancer has stopped to lead to: who is connected stays, but nobody new finds it."""
    monkeypatch.setattr(supervisor, "HEARTBEAT_MS", 100)
    monkeypatch.setattr(crew, "MAX_AWAY_SECONDS", 0.5)
    async with working(desk, write_project(tmp_path, plain="from outlast import task\n\n@task\nasync def plain(): ...")):
        await desk.ready()
        desk.is_elsewhere = desk.suspects = True
        assert (await desk.first(Attach)).session == "s1"
        desk.is_elsewhere = False
        await desk.ready("process")
