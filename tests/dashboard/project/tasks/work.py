"""What the acts look at while it really runs. Files let tests say when it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from outlast import logger, task, wait


@task(id="order")
async def order(payload: dict[str, str]) -> str:
    for part in ("one", "two", "three"):
        logger.info(f"line {part}")
    approved = await wait.for_token(payload["token"])
    return await child.trigger_and_wait(payload["gate"]).unwrap() + f" {approved.output}"


@task(id="child")
async def child(payload: str) -> str:
    while not Path(payload).exists():
        await asyncio.sleep(0.02)
    return "packed"


@task(id="busy")
async def busy(payload: str) -> None:
    """Writes until it is stopped, and says that it was."""
    file = Path(payload)
    try:
        while True:
            file.write_text(f"{file.read_text() if file.exists() else ''}.")
            await asyncio.sleep(0.02)
    finally:
        file.write_text(file.read_text() + "stopped")
