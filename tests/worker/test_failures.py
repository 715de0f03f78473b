"""However user code fails, and whatever its error is, the run ends and the executor goes on."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from outlast import Retry, hooks, task
from outlast.model.limits import MAX_ERROR_MESSAGE_CHARS, MAX_OUTPUT_BYTES
from tests.worker.house import Bench

SOON = Retry(max_attempts=3, min_timeout=0, max_timeout=0)


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


async def test_an_error_without_text_still_ends_the_run(bench: Bench) -> None:
    @task(id="nasty")
    async def nasty() -> None:
        raise Nasty

    @nasty.middleware
    async def through(next: hooks.Next) -> None:
        await next()

    done = await bench.run("nasty")
    assert done.error is not None and done.error.name == "Nasty"


async def test_a_huge_error_is_cut(bench: Bench) -> None:
    @task(id="huge")
    async def huge() -> None:
        raise ValueError("x" * 50_000_000)

    done = await bench.run("huge")
    assert done.error is not None and len(done.error.message) <= MAX_ERROR_MESSAGE_CHARS


async def test_cyclic_causes_and_groups_end_the_run_too(bench: Bench) -> None:
    @task(id="cyclic")
    async def cyclic() -> None:
        a, b = ValueError("a"), ValueError("b")
        a.__cause__, b.__cause__ = b, a
        raise ExceptionGroup("all", [a, *[KeyError(i) for i in range(1_000)]])

    done = await bench.run("cyclic")
    assert done.error is not None and done.error.name == "ExceptionGroup"


async def test_an_output_that_cannot_travel_is_an_output_error(bench: Bench) -> None:
    @task(id="bytes")
    async def gives_bytes() -> bytes:
        return b"raw"

    done = await bench.run("bytes")
    assert done.outcome == "failed" and done.error is not None and done.error.code == "TASK_OUTPUT_ERROR"


async def test_an_output_above_the_limit_is_refused_here_and_not_sent(bench: Bench) -> None:
    @task(id="large", retry=SOON)
    async def large() -> str:
        return "x" * (MAX_OUTPUT_BYTES + 1)

    done = await bench.run("large")
    assert done.outcome == "failed" and done.output is None
    assert done.error is not None and done.error.code == "TASK_OUTPUT_ERROR"


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_exit_in_user_code_fails_the_attempt_only(bench: Bench, kind: Any) -> None:
    if kind == "async":

        @task(id="exits")
        async def exits() -> None:
            sys.exit(3)

    else:

        @task(id="exits")
        def exits_sync() -> None:
            sys.exit(3)

    done = await bench.run("exits", kind=kind)
    assert done.outcome == "failed" and done.error is not None and "SystemExit(3)" in done.error.message


async def test_exit_below_middleware_fails_the_attempt_only(bench: Bench) -> None:
    @task(id="exits")
    async def exits() -> None:
        raise KeyboardInterrupt

    @exits.middleware
    async def through(next: hooks.Next) -> None:
        await next()

    done = await bench.run("exits")
    assert done.error is not None and "KeyboardInterrupt" in done.error.message
