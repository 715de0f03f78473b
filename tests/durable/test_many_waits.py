"""One transaction ends many runs that others wait for: it needs the rows of all of them, and finds them in a few looks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from outlast import Task, bulk, idempotency_key, runs, task
from outlast.idempotency import IdempotencyKey
from outlast.store.check import whole
from tests.databases import Address
from tests.durable.house import House, open_house

MANY = 12


def waits(kind: str) -> tuple[Task[int, None], Task[None, Any]]:
    @task(id="child")
    async def child(payload: int) -> None:
        await asyncio.Event().wait()

    def one(n: int) -> Any:
        match kind:
            case "children":
                return child.trigger_and_wait(n)
            case "batches":
                return child.batch_trigger_and_wait([n])
            case _:
                return child.trigger_and_wait(n, idempotency_key=key(n))

    @task(id="parent")
    async def parent() -> list[bool | None]:
        return [getattr(result, "ok", None) for result in await asyncio.gather(*[one(n) for n in range(MANY)])]

    return child, parent


def key(n: int) -> IdempotencyKey:
    return idempotency_key(f"child {n}", scope="global")


async def executing(house: House) -> None:
    found = "SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE task = 'child' AND execution = 'EXECUTING') c"
    await house.until(f"{found} WHERE n = {MANY}")
    await house.until("SELECT 1 FROM runs WHERE task = 'parent' AND execution = 'SUSPENDED'")


async def statuses(house: House, name: str) -> set[str]:
    return {row[0] for row in await house.runtime.engine.read(lambda tx: tx.all("SELECT status FROM runs WHERE task = :name", name=name))}


@pytest.mark.parametrize("kind", ["children", "batches"])
async def test_the_children_of_a_cancelled_run_are_cancelled_together(address: Address, tmp_path: Path, kind: str) -> None:
    _, parent = waits(kind)
    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await parent.trigger()
        await executing(house)
        await runs.cancel(handle)
        await house.until("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM work)")
        assert await statuses(house, "child") == {"CANCELED"}
        assert await house.runtime.engine.read(whole) == []


@pytest.mark.parametrize("kind", ["children", "batches", "shared"])
async def test_runs_that_another_waits_for_are_cancelled_by_one_bulk_action(address: Address, tmp_path: Path, kind: str) -> None:
    """`shared`: they are nobody's children, and the parent waits for them by their keys."""
    child, parent = waits(kind)
    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        if kind == "shared":
            await asyncio.gather(*[child.trigger(n, idempotency_key=key(n)) for n in range(MANY)])
        handle = await parent.trigger()
        await executing(house)
        done = await bulk.poll(await bulk.cancel(filter=bulk.filter(task="child")))
        assert (done.status, done.counts.success) == ("COMPLETED", MANY)
        assert (await runs.poll(handle)).status == "COMPLETED"
        assert await house.runtime.engine.read(whole) == []
