"""What of the guide's traps needs more than a program that is interrupted; by their numbers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
import sqlalchemy.orm

from outlast import Retry, RunContext, idempotency_key, queue, runs, step, sync, task, wait
from outlast.errors import RecursiveWaitDeadlock
from tests.databases import Address
from tests.durable.house import open_house


async def test_4_a_poll_loop_that_is_replayed_fast_is_named_in_development(address: Address, tmp_path: Path) -> None:
    @task
    async def polls() -> int:
        for _ in range(60):
            await wait.for_(seconds=1)
        return 60

    async with open_house(address, tmp_path, env="dev") as house:
        await house.work()
        handle = await polls.trigger()
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM journal WHERE status = 'ok') found WHERE n > 55")
        house.retire()
        await house.work()
        assert any("waits were replayed in less than a second" in line for line in await house.logs(handle.id))


async def test_12_what_is_held_over_a_wait_is_named_in_development(address: Address, tmp_path: Path) -> None:
    def opened(kind: str) -> Any:
        if kind == "sqlite3":
            made = sqlite3.connect(":memory:")
            made.execute("CREATE TABLE x (y)")
            made.execute("INSERT INTO x VALUES (1)")
            return made
        if kind == "psycopg":
            return psycopg.connect(address.url)
        engine = sqlalchemy.create_engine("sqlite://")
        return sqlalchemy.orm.Session(engine) if kind == "session" else engine.connect()

    @task
    async def holds(payload: str) -> None:
        held = opened(payload)
        if payload == "session":
            held.execute(sqlalchemy.text("SELECT 1"))
        await step("no wait", int)
        await waits()
        held.close()
        await wait.for_(seconds=2)

    async def waits() -> None:
        await wait.for_(seconds=1)

    @task
    def holds_in_a_thread() -> None:
        held = opened("sqlite3")
        sync.wait.for_(seconds=1)
        held.close()

    async with open_house(address, tmp_path, env="dev") as house:
        await house.work()
        for kind in ("sqlite3", "connection", "session", *(["psycopg"] if address.is_postgres else [])):
            held = await holds.trigger(kind)
            said = [line for line in await house.logs(held.id) if "'held'" in line]
            assert len(said) == 1 and ("is open" if kind in ("connection", "psycopg") else "open transaction") in said[0], (kind, said)
        threaded = await holds_in_a_thread.trigger()
        assert "sqlite3 Connection, has an open transaction" in (await house.logs(threaded.id))[0]


@pytest.mark.parametrize("key", [None, "tenant"])
async def test_22_parent_and_child_in_one_slot_complete_and_a_circle_is_refused(address: Address, tmp_path: Path, key: str | None) -> None:
    """Behaviour 70, row 54 of security."""
    narrow = queue("narrow", concurrency_limit=1)
    options: dict[str, Any] = {} if key is None else {"concurrency_key": key}

    caught: list[str] = []

    @task(queue=narrow, retry=Retry(max_attempts=3))
    async def child() -> None:
        try:
            await parent.trigger_and_wait(idempotency_key=idempotency_key("me", scope="global"), **options)
        except RecursiveWaitDeadlock as error:
            caught.append(str(error))
            raise

    @task(queue=narrow)
    async def parent() -> Any:
        result = await child.trigger_and_wait(**options)
        return [result.ok, result.error.name]

    async with open_house(address, tmp_path) as house:
        await house.work()
        async with asyncio.timeout(30):
            made = await parent.trigger_and_wait(idempotency_key=idempotency_key("me", scope="global"), **options)
        assert made.output == [False, "RECURSIVE_WAIT_DEADLOCK"]
        assert len(caught) == 1 and "could never end" in caught[0]  # no retry would help


async def test_26_a_worker_that_comes_back_too_late_changes_nothing(address: Address, tmp_path: Path) -> None:
    """Two executions do the effect; the service that is called can tell by the key, the journal has one result."""
    told: list[tuple[str, asyncio.Event]] = []

    async def pays() -> int:
        told.append((step.idempotency_key, asyncio.Event()))
        n = len(told)
        await told[-1][1].wait()
        ended.append(n)
        return n

    @task
    async def program() -> list[int]:
        first = await step("pay", pays)
        return [first, await step("after", len, [1])]

    ended: list[int] = []
    async with open_house(address, tmp_path) as house:
        await house.work()
        handle = await program.trigger()
        await seen(lambda: len(told) == 1)
        zombie = house.cores[0]
        await house.work()
        zombie.drain()
        await house.lose(zombie)  # its connection stands, and it does not know
        await seen(lambda: len(told) == 2)
        told[0][1].set()  # what it writes now is refused
        await seen(lambda: 1 in ended and not zombie.held)
        told[1][1].set()
        assert (await runs.poll(handle)).output == [2, 1]
        assert told[0][0] == told[1][0] and ended == [1, 2]


async def test_28_a_laptop_that_slept_goes_on_by_its_journals(address: Address, tmp_path: Path) -> None:
    """Its lease is over, and so is what it held; its runs are not, and one that only waited has lost no attempt."""
    began: list[str] = []

    @task
    async def program(payload: str, ctx: RunContext) -> list[Any]:
        began.append(payload)
        await step("first", began.append, "step")
        return [await wait.for_token(payload).unwrap(), ctx.attempt.number]

    async with open_house(address, tmp_path, env="dev", travels=False) as house:
        await house.work()
        token = await wait.create_token()
        handle = await program.trigger(token.id)
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED'")
        await house.sleep()
        await house.work()
        await wait.complete_token(token, "awake")
        assert (await runs.poll(handle)).output == ["awake", 1]
        assert began == [token.id, "step", token.id]


async def seen(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not ready():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("name", ["", "n" * 257, "a\x00b", "\ud800"])
async def test_a_name_that_cannot_be_is_refused(address: Address, tmp_path: Path, name: str) -> None:
    """Row 65 of security."""

    @task
    async def names() -> str:
        try:
            await step(name, int)
        except ValueError as error:
            return str(error)
        return ""

    async with open_house(address, tmp_path) as house:
        await house.work()
        assert "1 to 256 characters" in await names.trigger_and_wait().unwrap()


async def test_a_child_made_by_a_key_that_was_used_is_waited_for(address: Address, tmp_path: Path) -> None:
    @task
    async def child(payload: int) -> int:
        await wait.for_(hours=1)
        return payload

    @task
    async def parent(payload: int) -> int:
        return await child.trigger_and_wait(payload, idempotency_key=idempotency_key("shared", scope="global")).unwrap()

    async with open_house(address, tmp_path) as house:
        await house.work()
        handles = [await parent.trigger(n) for n in (1, 2, 3)]
        assert [(await runs.poll(h)).output for h in handles] == [1, 1, 1]
        assert await parent.trigger_and_wait(4).unwrap() == 1
