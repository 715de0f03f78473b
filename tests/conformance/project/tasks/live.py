"""What the official client watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from outlast import metadata, streams, tags, task, wait

ai = streams.define("ai", type=dict[str, Any])
approvals = streams.input("approval")
seen = streams.input("seen")


@task
async def progress(payload: int) -> dict[str, Any]:
    """Waits for a value, shows how far it is until that was seen, step by step, and ends."""
    metadata.set("progress", 0)
    await approvals.wait()
    for i in range(payload):
        metadata.set("progress", i + 1).append("log", f"step {i}")
        await metadata.flush()
        await seen.once()
    await tags.add("finished")
    return {"steps": payload}


@task
async def speaks(payload: int) -> str:
    """Says something, waits to be told to go on, and says the rest."""

    async def tokens(start: int, end: int) -> AsyncIterator[dict[str, Any]]:
        for i in range(start, end):
            yield {"n": i, "text": f"token {i}"}
            await asyncio.sleep(0)

    await ai.pipe(tokens(0, payload // 2))
    await approvals.wait()
    await ai.pipe(tokens(payload // 2, payload))
    await streams.append("the default stream")
    return "done"


@task
async def asks(payload: Any) -> Any:
    """Gives back what it is sent."""
    return await approvals.wait(timeout="5m").unwrap()


@task
async def naps(payload: int) -> int:
    await wait.for_(seconds=0.2)
    return payload
