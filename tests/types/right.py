"""Code that must type-check: what a task gives back is known without a cast."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

from outlast import BatchItem, Result, RunContext, Task, batch, task, tasks
from outlast.client.answers import BatchHandle, RunHandle


class Order(BaseModel):
    id: int


@task(id="orders.ship", max_duration=300, ttl="10m")
async def ship(payload: Order, ctx: RunContext) -> dict[str, bool]:
    return {"done": ctx.attempt.number > payload.id}


@task
async def bare(payload: int) -> str:
    return str(payload)


@task(id="clean")
def clean() -> int:
    return 1


@task(id="later")
async def later(payload: int | None = None) -> str:
    return str(payload)


@task(id="blocking")
def blocking(payload: Order) -> list[int]:
    return [payload.id]


assert_type(ship, Task[Order, dict[str, bool]])
assert_type(bare, Task[int, str])
assert_type(blocking, Task[Order, list[int]])
assert_type(later, Task[int | None, str])


async def use() -> None:
    assert_type(await ship.trigger(Order(id=1), tags=["a"], delay="1h"), RunHandle[dict[str, bool]])
    assert_type(await bare.trigger(1), RunHandle[str])
    assert_type(await tasks.trigger("orders.ship", {"id": 1}), RunHandle[Any])
    assert_type(await ship.batch_trigger([Order(id=1), BatchItem(Order(id=2), delay="1h")]), BatchHandle)
    assert_type(await batch.trigger([BatchItem(Order(id=1), task=ship), BatchItem({"x": 1}, task="other")]), BatchHandle)
    result = await ship.trigger_and_wait(Order(id=1))
    assert_type(result, Result[dict[str, bool]])
    if result.ok:
        assert_type(result.output, dict[str, bool])
    assert_type(await ship.trigger_and_wait(Order(id=1)).unwrap(), dict[str, bool])
    await later.trigger()
    await clean.trigger()


def from_a_thread() -> None:
    assert_type(ship.sync.trigger(Order(id=1)), RunHandle[dict[str, bool]])


@ship.on_failure
async def report(payload: Order, error: Exception, ctx: RunContext) -> None: ...
