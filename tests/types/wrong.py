"""Code that must not type-check: every line that ends with `# error: RULE` is refused, and no other."""

from __future__ import annotations

from pydantic import BaseModel

from outlast import Retry, RunContext, task
from outlast.client.answers import RunHandle


class Order(BaseModel):
    id: int


@task(id="orders.ship")
async def ship(payload: Order, ctx: RunContext) -> dict[str, bool]:
    return {}


@task(id="never", max_attempts=3)  # error: reportCallIssue, reportUntypedFunctionDecorator
async def never(payload: int) -> str:
    return ""


@task(id="machine", machine="gigantic")  # error: reportArgumentType
async def machine(payload: int) -> str:
    return ""


Retry(attempts=3)  # error: reportCallIssue


async def use() -> None:
    await ship.trigger("order")  # error: reportArgumentType
    await ship.trigger()  # error: reportCallIssue
    await ship.trigger(Order(id=1), dealy="1h")  # error: reportCallIssue
    await ship.trigger(Order(id=1), priority="high")  # error: reportArgumentType
    await ship.batch_trigger([1, 2])  # error: reportArgumentType
    handle: RunHandle[str] = await ship.trigger(Order(id=1))  # error: reportAssignmentType
    print(handle)
    output: int = await ship.trigger_and_wait(Order(id=1)).unwrap()  # error: reportAssignmentType
    print(output)
