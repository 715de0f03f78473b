"""Tasks that a Node program triggers with the official client."""

from __future__ import annotations

from pydantic import BaseModel, EmailStr, NonNegativeInt

from outlast import Retry, task


@task(id="process-data", retry=Retry(max_attempts=3))
async def process_data(payload: dict[str, str]) -> dict[str, bool]:
    return {"processed": "userId" in payload}


class User(BaseModel):
    email: EmailStr
    age: NonNegativeInt


@task(id="validated-task")
async def validated_task(payload: User) -> str:
    return payload.email
