"""What runs say: prints, `logging`, the logger; told apart by run, capped, in order before the end."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from outlast import logger, task
from outlast.model.limits import MAX_LOG_CHARS
from outlast.model.messages import Done, Log
from outlast.worker import capture, lines
from tests.worker.house import Bench


@pytest.fixture
def captured() -> Iterator[Callable[[], None]]:
    """Called by the test itself: pytest puts its own streams in place between a fixture and its test."""
    root = logging.getLogger()
    before = (sys.stdout, sys.stderr, list(root.handlers), root.level)
    yield lambda: (capture.install(), None)[1]
    sys.stdout, sys.stderr, root.handlers[:], level = before
    root.setLevel(level)


async def test_prints_of_runs_at_the_same_time_are_told_apart(bench: Bench, captured: Callable[[], None]) -> None:
    captured()
    barrier = asyncio.Barrier(2)

    @task(id="talk")
    async def talk(payload: str) -> None:
        await barrier.wait()
        print("hello", payload)
        await barrier.wait()
        print("bye", payload)

    one, two = bench.desk.push("talk", "one"), bench.desk.push("talk", "two")
    await bench.desk.done(one)
    await bench.desk.done(two)
    assert bench.desk.texts(one) == ["hello one", "bye one"]
    assert bench.desk.texts(two) == ["hello two", "bye two"]


async def test_threads_tasks_and_levels_keep_their_source(bench: Bench, captured: Callable[[], None]) -> None:
    captured()

    @task(id="sync")
    def sync() -> None:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        logging.getLogger("lib").warning("careful %s", 1)
        logger.error("structured", user="ada", n=1)

    run_id = bench.desk.push("sync", kind="thread")
    await bench.desk.done(run_id)
    assert [(x.level, x.source, x.message) for x in bench.desk.lines(run_id)] == [
        ("info", "stdout", "to stdout"),
        ("error", "stderr", "to stderr"),
        ("warn", "logging", "careful 1"),
        ("error", "logger", "structured"),
    ]
    assert bench.desk.lines(run_id)[-1].data == {"user": "ada", "n": 1}


async def test_lines_are_sent_before_the_end_of_their_run(bench: Bench, captured: Callable[[], None]) -> None:
    captured()

    @task(id="talk")
    async def talk() -> None:
        print("no line end", end="")

    run_id = bench.desk.push("talk")
    await bench.desk.done(run_id)
    order = [type(m).__name__ for m in bench.desk.received if isinstance(m, Log | Done)]
    assert order == ["Log", "Done"] and bench.desk.texts(run_id) == ["no line end"]


async def test_lines_of_a_long_run_arrive_while_it_runs(bench: Bench, captured: Callable[[], None]) -> None:
    captured()
    go_on = asyncio.Event()

    @task(id="talk")
    async def talk() -> None:
        print("early")
        await go_on.wait()

    run_id = bench.desk.push("talk")
    await bench.desk.line(run_id, "early")
    assert not bench.desk.dones()
    go_on.set()
    await bench.desk.done(run_id)


async def test_bytes_that_are_no_text_are_replaced(bench: Bench, captured: Callable[[], None]) -> None:
    captured()

    @task(id="raw")
    async def raw() -> None:
        sys.stdout.buffer.write(b"ab\xffcd\n")
        print("half \ud800 and \x00 nul")

    run_id = bench.desk.push("raw")
    await bench.desk.done(run_id)
    assert bench.desk.texts(run_id) == ["ab\ufffdcd", "half ? and \\u0000 nul"]


async def test_a_line_is_cut_at_the_limit_also_when_it_never_ends(bench: Bench, captured: Callable[[], None]) -> None:
    captured()

    @task(id="long")
    async def long() -> None:
        print("x" * 1_000_000)
        for _ in range(300_000):
            sys.stdout.write("y")

    run_id = bench.desk.push("long")
    await bench.desk.done(run_id)
    assert all(len(text) <= MAX_LOG_CHARS + 1 for text in bench.desk.texts(run_id))
    assert sum(text.count("y") for text in bench.desk.texts(run_id)) > 2 * MAX_LOG_CHARS


async def test_a_run_that_prints_without_end_is_capped_and_the_rest_counted(bench: Bench, captured: Callable[[], None]) -> None:
    captured()
    count = 5 * lines.MAX_RUN_LINES

    @task(id="flood")
    async def flood() -> None:
        for i in range(count):
            print(i)

    run_id = bench.desk.push("flood")
    await bench.desk.done(run_id)
    kept, dropped = bench.desk.lines(run_id), sum(m.dropped for m in bench.desk.of(Log))
    assert dropped > 0 and len(kept) - 1 + dropped == count
    assert "log lines were dropped" in kept[-1].message


async def test_data_that_cannot_travel_is_shown_as_text(bench: Bench, captured: Callable[[], None]) -> None:
    captured()

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    @task(id="data")
    async def data() -> None:
        logger.info("odd", odd=Odd(), nan=float("nan"), big=2**80, items=[1, 2])

    run_id = bench.desk.push("data")
    await bench.desk.done(run_id)
    found = bench.desk.lines(run_id)[0].data
    assert found is not None and (found["nan"], found["items"]) == ("nan", "[1, 2]") and found["odd"].endswith(".Odd>")


async def test_lines_wait_for_the_server_within_limits(bench: Bench, captured: Callable[[], None]) -> None:
    captured()
    began, go_on = asyncio.Event(), asyncio.Event()

    @task(id="talk")
    async def talk() -> None:
        began.set()
        await go_on.wait()
        print("said while away")

    run_id = bench.desk.push("talk")
    await began.wait()
    await bench.disconnect()
    go_on.set()
    await bench.connect()
    await bench.desk.line(run_id, "said while away")


async def test_in_development_people_read_along(bench: Bench, captured: Callable[[], None]) -> None:
    captured()
    bench.core.lines.echo = io.StringIO()

    @task(id="talk")
    async def talk() -> None:
        print("aloud")

    await bench.run("talk")
    assert bench.core.lines.echo.getvalue().endswith("info  aloud\n")


def test_outside_of_runs_the_streams_are_the_real_ones() -> None:
    real = io.StringIO()
    stream = capture.RunStream(real, "stdout")
    stream.write("plain")
    assert real.getvalue() == "plain"
