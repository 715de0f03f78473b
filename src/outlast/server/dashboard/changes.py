"""What changed, as topics open pages listen to; pages then fetch what they show again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable

from outlast.engine.engine import Engine
from outlast.server.realtime.feed import Feed
from outlast.store import progress

GATHER_SECONDS = 1.0  # a page hears at most this often
LOOK_SECONDS = 0.5  # a journal and a log say nothing to the feed: an open run is looked at this often
PING_SECONDS = 15.0
MAX_LISTENERS = 1_000
# any change of a run may show on these pages
RUN_TOPICS = frozenset({"runs", "home", "queues", "batches", "tasks", "workers", "tokens"})


class Changes:
    """Topics are names of pages, and `run:ID` for one run with its journal, lines and children."""

    def __init__(self, engine: Engine, feed: Feed) -> None:
        self._engine = engine
        self._feed = feed
        self.listeners = 0

    @property
    def is_full(self) -> bool:
        return self.listeners >= MAX_LISTENERS

    def tell(self, env_id: int, topics: Iterable[str]) -> None:
        """Something other than a run changed."""
        for topic in topics:
            self._feed.publish(env_id, topic)

    async def listen(self, env_id: int, topics: Collection[str]) -> AsyncIterator[list[str] | None]:
        """Lists of changed topics, and None now and then when there is nothing to say. It ends when the server stops."""
        runs = [topic[4:] for topic in topics if topic.startswith("run:")]
        about_runs = RUN_TOPICS & set(topics)
        looks = bool(runs) or "logs" in topics
        self.listeners += 1
        try:
            async with self._feed.subscribe(env_id, runs=runs, topics=topics, everything=bool(about_runs)) as changes:
                before, silent = await self._progress(runs) if looks else 0, 0.0
                while not changes.closed:
                    wait = LOOK_SECONDS if looks else PING_SECONDS
                    taken = await changes.take(wait)
                    heard = set(taken.topics)
                    if taken.changes or taken.missed:
                        heard |= about_runs | {f"run:{c.run_id}" for c in taken.changes} & set(topics)
                    if looks and (now := await self._progress(runs)) != before:
                        before = now
                        heard |= {topic for topic in topics if topic.startswith("run:") or topic == "logs"}
                    silent = 0.0 if heard else silent + wait
                    if heard:
                        yield sorted(heard)
                        await asyncio.sleep(GATHER_SECONDS)
                    elif silent >= PING_SECONDS:
                        silent = 0.0
                        yield None
        finally:
            self.listeners -= 1

    async def _progress(self, runs: list[str]) -> int:
        if not runs:
            return await self._engine.read(progress.of_lines)
        return await self._engine.read(lambda tx: progress.of_runs(tx, runs))
