"""Real workers: a supervisor in this process, executors as its children, killed and blocked as life does it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from outlast.model.messages import Attach, Bye, Credit, Done, Drain, HeldRun, Hello, Join, Lost, Rejected, Release, SessionLost
from outlast.worker.supervisor import Supervisor, WorkerRefused
from tests.worker.desk import PATIENCE, Desk
from tests.worker.house import ended, stderr_lines, working, write_project

BASIC = """
    import asyncio, os, sys, time
    from outlast import task

    @task(id="pid")
    async def pid() -> int:
        return os.getpid()

    @task(id="hang")
    async def hang() -> None:
        print("hanging", flush=True)
        while True:
            time.sleep(0.05)

    @task(id="wait")
    async def wait() -> None:
        print(os.getpid())
        await asyncio.Event().wait()

    @task(id="exit.below")
    async def exit_below() -> None:
        async def child():
            sys.exit(3)
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    @task(id="die")
    async def die() -> None:
        os._exit(7)

    @task(id="kill.group")
    async def kill_group() -> None:
        os.kill(0, 9)

    @task(id="close.fds")
    async def close_fds() -> str:
        os.close(1), os.close(2)
        print("said without a stdout")
        return "fine"
"""
MIXED = """
    import os, threading, time
    from outlast import task

    @task(id="async")
    async def on_loop() -> int:
        return os.getpid()

    @task(id="thread")
    def in_thread() -> int:
        return os.getpid()

    @task(id="stuck")
    def stuck() -> None:
        print("stuck")
        time.sleep(600)
"""


async def test_a_worker_says_what_its_code_holds_and_runs_it(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        hello = await desk.first(Hello)
        assert {"pid", "hang", "wait", "exit.below", "die"} <= {t.id for t in hello.manifest.tasks}
        assert hello.manifest.tasks[0].file == "tasks/basic.py" and hello.manifest.python == f"3.{sys.version_info.minor}"
        await desk.ready()
        pid = int((await desk.done(desk.push("pid"))).output or 0)
        assert pid not in (0, os.getpid())
    assert [type(m) for m in desk.received[-2:]] == [Lost, Bye] or isinstance(desk.received[-1], Bye)
    assert desk.of(Drain)


async def test_async_and_def_tasks_live_in_processes_of_their_own(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, mixed=MIXED)):
        await desk.ready("async")
        await desk.ready("thread")
        assert {(p.credit.async_slots > 0, p.credit.thread_slots > 0) for p in desk.peers if p.executor} == {(True, False), (False, True)}
        one, two = desk.push("async"), desk.push("thread", kind="thread")
        assert (await desk.done(one)).output != (await desk.done(two)).output


async def test_an_executor_killed_with_9_is_reported_at_once_and_replaced(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        run_id = desk.push("wait")
        pid = int((await desk.until(lambda: desk.lines(run_id), "its pid"))[0].message)
        name = desk.executor().executor
        os.kill(pid, signal.SIGKILL)
        lost = await desk.first(Lost)
        assert (lost.executor, lost.exit_status) == (name, -signal.SIGKILL)
        await desk.ready()
        again = desk.executor()
        assert again.executor != name
        assert int((await desk.done(desk.push("pid"))).output or 0) != pid


async def test_code_that_ends_its_process_costs_one_executor(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        desk.push("die")
        assert (await desk.first(Lost)).exit_status == 7
        await desk.ready()
        assert (await desk.done(desk.push("pid"))).outcome == "ok"


async def test_after_a_death_suspects_get_processes_of_their_own(desk: Desk, tmp_path: Path) -> None:
    """Row 29: a run that lost two workers is tried alone, whatever its task says, and then costs nobody else."""
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        beside = int((await desk.done(desk.push("pid"))).output or 0)
        desk.push("die")
        await desk.ready("process")
        await desk.ready()
        dead = await desk.done(desk.push("die", kind="process"))
        assert (dead.outcome, "status 7" in str(dead.error)) == ("crashed", True)
        alone = int((await desk.done(desk.push("pid", kind="process"))).output or 0)
        assert alone not in (0, beside, os.getpid())
        assert len(desk.of(Lost)) == 1


async def test_a_task_that_kills_its_process_group_kills_its_executor_only(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        desk.push("kill.group")
        assert (await desk.first(Lost)).exit_status == -signal.SIGKILL
        await desk.ready()


async def test_a_task_that_closes_stdout_is_still_heard(desk: Desk, tmp_path: Path) -> None:
    desk.env = "dev"  # lines are echoed there: to nowhere, now
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        run_id = desk.push("close.fds")
        assert (await desk.done(run_id)).output == '"fine"'
        assert desk.texts(run_id) == ["said without a stdout"]


async def test_an_executor_that_is_refused_makes_the_worker_begin_anew(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        await desk.tell(Rejected("unauthorized", "the token is not of this session"))
        await desk.first(Join, lambda j: j.session == "s2")
        await desk.ready()
        assert (await desk.done(desk.push("pid"))).outcome == "ok"


async def test_exit_in_a_child_task_fails_its_run_and_nothing_else(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        waiting, pid = desk.push("wait"), await desk.done(desk.push("pid"))
        done = await desk.done(desk.push("exit.below"))
        assert done.outcome == "failed"
        assert (await desk.done(desk.push("pid"))).output == pid.output
        assert not desk.dones(waiting) and not desk.of(Lost)


async def test_a_blocked_loop_is_named_with_its_stack(desk: Desk, tmp_path: Path) -> None:
    async with stderr_lines() as lines, working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        run_id = desk.push("hang")
        async with asyncio.timeout(PATIENCE):
            while "event loop blocked" not in (line := await lines.readline()).decode():
                assert line, "the log ended"
        record = json.loads(line)
        assert record["running"] == [f"hang ({run_id})"] and "time.sleep(0.05)" in record["stack"]


async def test_executors_die_with_a_supervisor_that_is_killed(desk: Desk, tmp_path: Path) -> None:
    project = write_project(tmp_path, basic=BASIC)
    program = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from outlast.worker.supervisor import Supervisor, WorkerOptions
        async def main():
            await Supervisor(WorkerOptions(url={desk.url!r}, key="k", project=Path({str(project)!r}), executors=1)).run()
        asyncio.run(main())
    """)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    await desk.ready()
    run_id = desk.push("wait")
    pid = int((await desk.until(lambda: desk.lines(run_id), "its pid"))[0].message)
    gone = ended(pid)
    process.kill()
    await process.wait()
    await asyncio.wait_for(gone, PATIENCE)


async def test_a_lost_connection_is_taken_up_again_with_what_runs(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        run_id = desk.push("wait")
        await desk.until(lambda: desk.lines(run_id), "its start")
        await desk.drop()
        assert (await desk.first(Attach)).session == "s1"
        joined = await desk.first(Join, lambda j: bool(j.held))
        assert [(h.run_id, h.epoch, h.attempt) for h in joined.held] == [(run_id, 1, 1)]
        await desk.ready()
        await desk.cancel(run_id)
        assert (await desk.done(run_id)).outcome == "cancelled"
        assert len(desk.of(Hello)) == 1


async def test_an_executor_that_died_while_the_server_was_away_is_told_after_the_attach(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        run_id = desk.push("wait")
        pid = int((await desk.until(lambda: desk.lines(run_id), "its pid"))[0].message)
        await desk.drop()
        os.kill(pid, signal.SIGKILL)
        attached = await desk.first(Attach)
        lost = await desk.until(lambda: [m for m in desk.received[desk.received.index(attached) :] if isinstance(m, Lost)], "lost")
        assert lost[0].exit_status == -signal.SIGKILL


async def test_a_session_that_is_over_ends_what_runs_and_a_new_one_begins(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        desk.push("wait")
        supervisors = [p for p in desk.peers if p.executor is None]
        await supervisors[0].send([SessionLost("the lease lapsed")])
        await desk.until(lambda: len(desk.of(Hello)) == 2, "a second hello")
        await desk.first(Join, lambda j: j.session == "s2" and not j.held)
        await desk.ready()


async def test_a_lease_that_is_not_renewed_ends_what_runs(desk: Desk, tmp_path: Path) -> None:
    desk.lease_ms = 6_000  # in doubt after one second, over after six; beats come too late for it
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        run_id = desk.push("wait")
        await desk.until(lambda: desk.lines(run_id), "its start")
        await desk.first(Credit, lambda c: c.async_slots == 0)
        desk.lease_ms = 30_000
        assert (await desk.first(Lost)).exit_status == -signal.SIGKILL


async def test_what_the_server_sets_is_in_the_environment_while_code_is_imported(desk: Desk, tmp_path: Path) -> None:
    desk.env_vars = {"API_TOKEN": "secret"}
    project = write_project(
        tmp_path,
        needs="""
        import os
        from outlast import task
        TOKEN = os.environ["API_TOKEN"]

        @task(id="needs")
        async def needs() -> str:
            return TOKEN
        """,
    )
    async with working(desk, project):
        await desk.ready()
        assert (await desk.done(desk.push("needs"))).output == '"secret"'
        assert [len(h.manifest.tasks) for h in desk.of(Hello)] == [0, 1]


async def test_stopping_lets_runs_end_and_gives_back_the_rest(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC), drain_seconds=0.2) as supervisor:
        await desk.ready()
        run_id = desk.push("wait")
        await desk.until(lambda: desk.lines(run_id), "its start")
        await supervisor.stop()
        await desk.first(Bye)
        kinds = [type(m) for m in desk.received if isinstance(m, Drain | Release | Bye)]
        assert kinds == [Drain, Release, Bye]
        assert desk.of(Release)[0].reason == "drain" and desk.of(Release)[0].run_id == run_id


async def test_a_second_stop_does_not_wait(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC), drain_seconds=600.0) as supervisor:
        await desk.ready()
        run_id = desk.push("wait")
        await desk.until(lambda: desk.lines(run_id), "its start")
        first = asyncio.create_task(supervisor.stop())
        await desk.first(Drain)
        await supervisor.stop(now=True)
        assert (await desk.first(Release)).run_id == run_id
        await asyncio.wait_for(first, PATIENCE)


async def test_a_process_whose_threads_are_all_stuck_is_replaced(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, mixed=MIXED), thread_slots=1):
        await desk.ready("thread")
        name = desk.executor("thread").executor
        run_id = desk.push("stuck", kind="thread")
        await desk.line(run_id, "stuck")
        await desk.cancel(run_id, grace_ms=50, kind="thread")
        assert (await desk.done(run_id)).outcome == "cancelled"
        await desk.until(lambda: any(p.is_open and p.credit.thread_slots and p.executor != name for p in desk.peers), "another")
        assert (await desk.done(desk.push("thread", kind="thread"))).outcome == "ok"


async def test_reload_brings_new_code_while_old_runs_end(desk: Desk, tmp_path: Path) -> None:
    project = write_project(tmp_path, code=_version(1))
    async with working(desk, project, drain_seconds=30.0) as supervisor:
        await desk.ready()
        old = desk.push("hold")
        await desk.line(old, "holding 1")
        write_project(tmp_path, code=_version(2))
        await supervisor.reload()
        await desk.first(Join, lambda j: j.session == "s2")
        await desk.until(lambda: any(p.is_open and p.credit.async_slots and p.executor != "x1" for p in desk.peers), "new room")
        await desk.until(lambda: all(p.credit.async_slots == 0 for p in desk.peers if p.executor == "x1"), "the old to drain")
        assert (await desk.done(desk.push("version"))).output == "2"
        assert not desk.dones(old)
        (tmp_path / "go").touch()
        assert (await desk.done(old)).output == "1"
        assert len({h.manifest.content_hash for h in desk.of(Hello)}) == 2


async def test_a_module_that_fails_to_import_is_shown_and_recovers_at_the_next_save(desk: Desk, tmp_path: Path) -> None:
    found: list[tuple[list[str], list[str]]] = []
    project = write_project(tmp_path, code=_version(1), basic=BASIC)
    async with working(
        desk, project, on_discovery=lambda m, f: found.append((sorted(t.id for t in m.tasks), [x.traceback for x in f]))
    ) as supervisor:
        await desk.ready()
        write_project(tmp_path, code="def broken(:\n")
        await supervisor.reload()
        tasks, tracebacks = found[-1]
        assert "version" not in tasks and "pid" in tasks
        assert len(tracebacks) == 1 and "SyntaxError" in tracebacks[0] and "def broken(:" in tracebacks[0]
        write_project(tmp_path, code=_version(3))
        await supervisor.reload()
        assert "version" in found[-1][0] and found[-1][1] == []
        await desk.first(Join, lambda j: j.session == "s3")
        await desk.until(lambda: [p for p in desk.peers if p.is_open and p.credit.async_slots and p.executor == "x3"], "room")
        assert (await desk.done(desk.push("version"))).output == "3"


async def test_a_key_that_is_refused_ends_the_worker_with_the_reason(tmp_path: Path) -> None:
    from websockets.asyncio.server import serve

    async def refuse(connection, request):  # type: ignore[no-untyped-def]
        return connection.respond(401, "no")

    async with serve(lambda _: None, "127.0.0.1", 0, process_request=refuse) as server:  # type: ignore[arg-type,return-value]
        desk = Desk()
        desk.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(WorkerRefused, match="key"):
            async with working(desk, write_project(tmp_path, basic=BASIC)):
                raise AssertionError("it connected")


async def test_dones_of_a_thousand_runs_all_arrive(desk: Desk, tmp_path: Path) -> None:
    async with working(desk, write_project(tmp_path, basic=BASIC), async_slots=1_000) as supervisor:
        assert isinstance(supervisor, Supervisor)
        await desk.ready()
        ids = [desk.push("pid") for _ in range(1_000)]
        await desk.until(lambda: len(desk.dones()) == 1_000, "all")
        assert {d.run_id for d in desk.of(Done)} == set(ids)


@pytest.mark.full
async def test_a_server_that_stops_answering_beats_is_left_for_a_new_connection(desk: Desk, tmp_path: Path) -> None:
    desk.answers_beats, desk.patience = False, 90.0
    desk.lease_ms = 120_000
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        assert (await desk.first(Attach)).session == "s1"
        assert not desk.of(Lost)


@pytest.mark.full
async def test_a_cancelled_run_that_blocks_its_executor_costs_the_executor(desk: Desk, tmp_path: Path) -> None:
    desk.patience = 90.0
    async with working(desk, write_project(tmp_path, basic=BASIC)):
        await desk.ready()
        run_id = desk.push("hang")
        name = desk.executor().executor
        assert name is not None
        desk.cancels = [HeldRun(run_id, 1, 0, name)]
        lost = await desk.first(Lost)
        assert (lost.executor, lost.exit_status) == (name, -signal.SIGKILL)


def _version(n: int) -> str:
    return f"""
import asyncio
from pathlib import Path
from outlast import task

@task(id="version")
async def version() -> int:
    return {n}

@task(id="hold")
async def hold() -> int:
    print("holding {n}")
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return {n}
"""
