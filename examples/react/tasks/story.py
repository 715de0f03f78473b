"""A story that is told word by word, and published when a person approves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypedDict

from outlast import metadata, step, streams, task, wait

story = streams.define("story", type=str)
PAUSE = 0.05  # seconds between two words


class Topic(TypedDict):
    topic: str


class Approval(TypedDict):
    approved: bool


async def tell(topic: str) -> list[str]:
    """Word after word into the stream. In a step, or a replay would tell it again."""
    told: list[str] = []

    async def words() -> AsyncIterator[str]:
        text = f"Once there was {topic}, and nobody had looked at it for a long time.".split()
        for i, word in enumerate(text):
            told.append(word)
            metadata.set("progress", (i + 1) / len(text))
            yield word + " "
            await asyncio.sleep(PAUSE)

    await story.pipe(words())
    return told


@task(id="tell-story")
async def tell_story(payload: Topic) -> dict[str, int]:
    words = await step("tell", tell, payload["topic"])
    token = await wait.create_token(timeout="1h")
    metadata.set("approval", {"id": token.id, "token": token.public_access_token})
    approval = await wait.for_token(token, type=Approval).unwrap()
    return {"words": len(words) if approval["approved"] else 0}
