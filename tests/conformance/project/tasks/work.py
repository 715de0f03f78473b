"""What the official client triggers."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, EmailStr, NonNegativeInt

from outlast import AbortTaskRun, Retry, RunContext, queue, task, wait

limited = queue("conformance/limited", concurrency_limit=3)


@task
async def echo(payload: Any) -> Any:
    return payload


@task
async def describe(payload: Any) -> dict[str, str]:
    """The Python types of an object's values: what a packet became."""
    return {name: type(value).__name__ for name, value in payload.items()}


@task
async def context(payload: Any, ctx: RunContext) -> dict[str, Any]:
    return {"id": ctx.run.id, "tags": ctx.run.tags, "queue": ctx.queue.name, "attempt": ctx.attempt.number, "test": ctx.run.is_test}


@task(retry=Retry(max_attempts=1))
async def fails(payload: Any) -> None:
    raise ValueError(f"refused: {payload}")


@task
async def aborts(payload: Any) -> None:
    raise AbortTaskRun("impossible")


@task(queue=limited)
async def slow(payload: Any) -> str:
    await asyncio.sleep(600)
    return "never"


@task
async def approval(payload: str) -> Any:
    """Waits for the token it is given."""
    return await wait.for_token(payload).unwrap()


@task
async def large(payload: int) -> str:
    return "x" * payload


class User(BaseModel):
    email: EmailStr
    age: NonNegativeInt


@task(id="process-data", retry=Retry(max_attempts=3))
async def process_data(payload: dict[str, str]) -> dict[str, bool]:
    return {"processed": True}


@task(id="validated-task")
async def validated(payload: User) -> str:
    return payload.email
