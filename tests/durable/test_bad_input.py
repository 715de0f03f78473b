"""Each bad input of durable waits is a named error that says what to do. Row 66 of security among them."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outlast import Retry, run, runs, step, sync, task, wait
from outlast.errors import JournalTooLarge, OutlastError
from outlast.model.journal import MAX_ENTRIES, MAX_VALUE_BYTES
from tests.databases import Address
from tests.durable.house import open_house
from tests.durable.test_tokens import raw

Case = tuple[str, str, Callable[[], Any], str]  # the input; the error's name; what is called; what its message says
calls: list[str] = []
NESTED = "NestedDurableOpError: .*make the call in the task and pass its result to the step"


def outside() -> list[Case]:
    name = "waiting outside a task"
    return [
        (name, "OutsideRunError", lambda: wait.for_(seconds=1), r"wait\.for_\(…\) only works inside a task: call it in the function"),
        (name, "OutsideRunError", lambda: wait.until(datetime.now(UTC)), r"wait\.until.* only works inside a task: call it in"),
        (name, "OutsideRunError", lambda: wait.for_token("waitpoint_x"), r"wait\.for_token.* only works inside a task: call it in"),
        (name, "OutsideRunError", lambda: step("a", int), r"step\('a', …\) only works inside a task: call it in"),
        (name, "OutsideRunError", run.now, r"run\.now.* only works inside a task: call it in"),
        (name, "OutsideRunError", lambda: sync.wait.for_(seconds=1), r"only works inside a task: call it in the function"),
        (
            "a step's idempotency key outside a step",
            "OutsideRunError",
            lambda: step.idempotency_key,
            "only exists inside the function of a",
        ),
    ]


def inside() -> list[Case]:
    negative, absurd = "a negative wait", "an absurd wait"
    unserialisable = "an unserialisable result"
    plain = "which cannot travel: return plain data instead"
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    return [
        ("a step inside a step", "StepFailed", lambda: step("outer", nested), NESTED),
        ("a wait inside a step", "StepFailed", lambda: step("outer", waiting), NESTED),
        ("duplicate explicit keys", "DuplicateKeyError", lambda: keyed("a"), "key='same' is used twice in one place: give each call a key"),
        (negative, "InvalidValue", lambda: wait.for_(seconds=-1), "must be 0 to ten years, and is -1 seconds"),
        (negative, "InvalidValue", lambda: wait.for_(months=-1), "must be 0 to ten years"),
        (negative, "InvalidValue", lambda: wait.for_token("waitpoint_x", timeout=-1), "timeout=-1 must be 0 to ten years"),
        (absurd, "InvalidValue", lambda: wait.for_(days=1e9), "must be 0 to ten years"),
        (absurd, "InvalidValue", lambda: wait.for_(seconds=float("nan")), "must be 0 to ten years"),
        (absurd, "InvalidValue", lambda: wait.for_(seconds=float("inf")), "must be 0 to ten years"),
        (absurd, "InvalidValue", lambda: wait.for_(years=11), "must be 0 to ten years"),
        (absurd, "InvalidValue", lambda: wait.until(datetime(2030, 1, 1)), r"has no time zone: use datetime\(…, tzinfo=UTC\)"),
        (absurd, "Unprocessable", lambda: wait.until(datetime(9999, 1, 1, tzinfo=UTC)), "ten years"),
        (absurd, "InvalidValue", lambda: wait.for_token("waitpoint_x", timeout="soon"), "timeout='soon' is neither seconds nor"),
        ("a step without a name", "InvalidValue", lambda: step("", int), "a step's name has 1 to 256 characters"),
        (f"{unserialisable}: a file", "NotSerializableError", lambda: step("s", lambda: sys.__stdout__), plain),
        (f"{unserialisable}: a generator", "NotSerializableError", lambda: step("s", lambda: (i for i in "a")), plain),
        (
            f"{unserialisable}: a lock, deep inside",
            "NotSerializableError",
            lambda: step("s", lambda: {"a": [threading.Lock()]}),
            r"at a\.0 is a lock",
        ),
        (f"{unserialisable}: with __reduce__", "NotSerializableError", lambda: step("s", Pickled), plain),
        (f"{unserialisable}: contains itself", "NotSerializableError", lambda: step("s", lambda: cyclic), "or contains itself"),
        (f"{unserialisable}: NaN", "NotSerializableError", lambda: step("s", lambda: float("nan")), "of step 's' cannot be recorded"),
        (f"{unserialisable}: too large", "NotSerializableError", too_large, "larger than 10485760 bytes: store it elsewhere"),
        ("a raw thread", "OutsideRunError", lambda: in_thread(run.now), "call it in the task itself|only works inside a task: call it in"),
        ("a raw thread that waits", "OutsideRunError", lambda: in_thread(lambda: sync.wait.for_(seconds=1)), "only works inside a task"),
        ("a thread with the run's context", "OutsideRunError", lambda: asyncio.to_thread(run.now), "thread that the task started: call it"),
        ("waiting for an unknown token", "Unprocessable", lambda: wait.for_token("waitpoint_x"), "waitpoint_x"),
        (
            "an empty batch",
            "InvalidValue",
            lambda: sleeper().batch_trigger_and_wait([]),
            "make the call only when there is something to do",
        ),
    ]


async def nested() -> None:
    calls.append("outer")
    await step("inner", int)


async def waiting() -> None:
    await wait.for_(seconds=1)


async def keyed(name: str) -> None:
    await step(name, int, key="same")
    await step(name, int, key="same")


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        raise AssertionError("nobody pickles this")


def too_large() -> Awaitable[Any]:
    def large() -> str:
        calls.append("large")
        return "x" * (MAX_VALUE_BYTES + 1)

    return step("large", large, retries=Retry(max_attempts=5, min_timeout=0.001, max_timeout=0.001))


def in_thread(call: Callable[[], Any]) -> Any:
    """Raises here what it raised there."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except OutlastError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def sleeper() -> Any:
    return task(id="sleeper")(_sleep)


async def _sleep(payload: int = 0) -> None: ...


async def said(cases: list[Case]) -> list[str]:
    """What is wrong with the answers."""
    wrong: list[str] = []
    for what, name, call, message in cases:
        try:
            answer = call()
            answer = await answer if hasattr(answer, "__await__") else answer
            wrong.append(f"{what}: accepted, {answer!r}")
        except Exception as error:
            if type(error).__name__ != name or not re.search(message, str(error)):
                wrong.append(f"{what}: {type(error).__name__}: {error}")
    return wrong


async def test_outside_of_a_task() -> None:
    assert await said(outside()) == []


@pytest.mark.parametrize("replay", [False, True])
async def test_inside_a_task(address: Address, tmp_path: Path, replay: bool) -> None:
    """Also as a replay finds it: recorded refusals are refused again, and no effect happens twice."""
    calls.clear()
    known = inside()

    @task
    async def tries() -> list[str]:
        wrong = await said(known)
        await wait.for_(hours=1)
        return wrong

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=replay)
        assert await tries.trigger_and_wait().unwrap() == []
        assert calls == ["outer", "large"], "a result that cannot be recorded is not made again"


async def test_tokens_that_cannot_be_completed_and_a_batch_over_its_limit(address: Address, tmp_path: Path) -> None:
    """Row 59 of security."""
    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        of_dev, of_prod = ({"authorization": f"Bearer {house.runtime.new_key(slug, 'other')}"} for slug in ("dev", "prod"))
        foreign = (await raw(house, "POST", "/api/v1/waitpoints/tokens", headers=of_dev, json={})).json()["id"]
        own, large = await wait.create_token(), {"x": "y" * 3 * 1024 * 1024}
        await wait.complete_token(own, 1)
        await wait.complete_token(own, 2)  # the first counts, and the second is told so by what it finds
        assert (await wait.retrieve_token(own)).output == 1
        open_ = await wait.create_token()
        cases: list[Case] = [
            ("completing an unknown token", "NotFound", lambda: wait.complete_token("waitpoint_x"), "not found"),
            ("completing a foreign token", "NotFound", lambda: wait.complete_token(foreign), "not found"),
            ("a token's body over its limit", "ApiError", lambda: wait.complete_token(open_, large), "3145728 bytes"),
            ("a token's value that cannot travel", "InvalidValue", lambda: wait.complete_token(open_, object()), "return plain data"),
            (
                "a token's timeout in the past",
                "BadRequest",
                lambda: wait.create_token(timeout=datetime(2001, 1, 1, tzinfo=UTC)),
                "must be in the future",
            ),
        ]
        assert await said(cases) == []
        large_batch = await raw(house, "POST", "/api/v2/tasks/batch", headers=of_prod, json={"items": [{"task": "t"}] * 1_001})
        assert (large_batch.status_code, "1000" in large_batch.text) == (400, True), large_batch.text
        callback = open_.url.removeprefix("http://x")
        assert (await raw(house, "POST", callback, content=b'"' + b"x" * 600_000 + b'"')).status_code == 413
        assert (await wait.retrieve_token(open_)).status == "WAITING"


async def test_5_a_journal_over_its_limit_says_how_to_go_on(address: Address, tmp_path: Path) -> None:
    """Row 65 of security, row 5 of traps."""

    @task
    async def endless(payload: int) -> str:
        if payload:
            return "fresh"
        for _ in range(MAX_ENTRIES):
            run.random()
        with pytest.raises(JournalTooLarge, match=r"run\.continue_as"):
            run.random()
        await run.continue_as(1)
        return ""

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await endless.trigger(0)
        old = await runs.poll(handle)
        assert (await runs.poll(old.output["continued_as"])).output == "fresh"
        assert any("1000 durable operations" in line for line in await house.logs(handle.id))
