"""The API page's code for use inside a task (section 3) runs as written; so do its results outside of one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from outlast import (
    Outlast,
    RunContext,
    idempotency_key,
    run,
    runs,
    step,
    task,
    tasks,
    wait,
)
from outlast.config import Config
from outlast.errors import SubtaskFailed
from outlast.results import Result


class Order(BaseModel):
    id: int


class Approval(BaseModel):
    status: str


async def stripe_charge(amount: int) -> dict[str, Any]:
    return {"amount": amount, "key": step.idempotency_key}


@pytest.fixture
def project() -> Any:
    tasks.clear()

    @task(id="orders.check.one")
    async def child(payload: Order) -> int:
        if payload.id == 13:
            raise ValueError("thirteen")
        return payload.id

    @task(id="orders.check.other")
    async def other(payload: Order) -> str:
        return f"other {payload.id}"

    @task(id="orders.decide.all")
    async def decide(payload: Order, ctx: RunContext) -> dict[str, Any]:
        said: dict[str, Any] = {}
        x, y = Order(id=1), Order(id=2)

        result = await child.trigger_and_wait(Order(id=7))
        if result.ok:
            said["output"] = result.output
        failed = await child.trigger_and_wait(Order(id=13))
        match failed:
            case Result(ok=True, output=_):
                said["matched"] = "ok"
            case Result(ok=False, error=error):
                said["matched"] = error.message
        output = await child.trigger_and_wait(Order(id=7)).unwrap()
        output += (await child.trigger_and_wait(Order(id=7))).unwrap()
        said["unwrapped"] = output
        with pytest.raises(SubtaskFailed):
            await child.trigger_and_wait(Order(id=13)).unwrap()

        results = await child.batch_trigger_and_wait([Order(id=i) for i in range(10)])
        said["batch"] = [r.output for r in results.runs]
        a, b = await asyncio.gather(child.trigger_and_wait(x), other.trigger_and_wait(y))
        said["gathered"] = [a.output, b.output]
        won = await wait.first(child.trigger_and_wait(x), wait.for_(minutes=5))
        assert won.value is not None
        said["won"] = [won.index, won.value.output]

        first = await child.trigger(payload, idempotency_key=f"{ctx.run.id}-child-1")
        again = await child.trigger(payload, idempotency_key=f"{ctx.run.id}-child-1")
        welcome = await child.trigger(payload, idempotency_key=idempotency_key(["welcome", "7"], scope="global"))
        said["keys"] = [first.id == again.id, welcome.id == first.id]

        await wait.for_(seconds=0.01)
        await wait.until(datetime(2020, 1, 1, tzinfo=UTC))
        token = await wait.create_token(timeout="10m", tags=["order:7"])
        await wait.complete_token(token.id, {"status": "approved"})
        approval = await wait.for_token(token, type=Approval)
        said["approval"] = approval.unwrap().status

        charge = await step("charge", stripe_charge, 5)
        said["charge"] = [charge["amount"], len(charge["key"])]
        started, lucky, key = run.now(), run.random(), run.uuid4()
        said["recorded"] = [isinstance(started, datetime), 0 <= lucky < 1, len(str(key))]
        return said

    yield decide
    tasks.clear()


async def test_inside_a_task(project: Any, tmp_path: Path) -> None:
    async with Outlast(data=tmp_path, config=Config()):
        handle = await project.trigger(Order(id=7))
        ended = await runs.poll(handle)
        assert ended.is_success, ended.error
        assert ended.output == {
            "output": 7,
            "matched": "thirteen",
            "unwrapped": 14,
            "batch": list(range(10)),
            "gathered": [1, "other 2"],
            "won": [0, 1],
            "keys": [True, False],
            "approval": "approved",
            "charge": [5, 64],
            "recorded": [True, True, 36],
        }
