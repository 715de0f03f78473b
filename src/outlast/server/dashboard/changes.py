"""What changed, as topics open pages listen to; pages then fetch what they show again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable

from outlast.engine.engine import Engine
from outlast.server.realtime.feed import Feed
from outlast.store import progress

FIRST_SECONDS = 0.25  # who waited hears at the next quarter of a second
GATHER_SECONDS = 1.0  # and then at most this often; all pages at the same moments, so that they share what is drawn
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
        self._told_at: dict[int, float] = {}

    @property
    def is_full(self) -> bool:
        return self.listeners >= MAX_LISTENERS

    def told_at(self, env_id: int) -> float:
        """When, on the loop's clock, pages of an environment last heard of a change: what was drawn before is old."""
        return self._told_at.get(env_id, 0.0)

    def touch(self, env_id: int) -> None:
        """Somebody acted: what was drawn before is old."""
        self._told_at[env_id] = asyncio.get_running_loop().time()

    def tell(self, env_id: int, topics: Iterable[str]) -> None:
        """Something other than a run changed."""
        self.touch(env_id)
        for topic in topics:
            self._feed.publish(env_id, topic)

    async def listen(self, env_id: int, topics: Collection[str]) -> AsyncIterator[list[str] | None]:
        """An empty list when it begins to hear, lists of changed topics, and None when there was long nothing to say.

        It ends when the server stops.
        """
        runs = [topic[4:] for topic in topics if topic.startswith("run:")]
        about_runs = RUN_TOPICS & set(topics)
        looks = bool(runs) or "logs" in topics
        self.listeners += 1
        try:
            async with self._feed.subscribe(env_id, runs=runs, topics=topics, everything=bool(about_runs)) as changes:
                before, silent = await self._progress(runs) if looks else 0, 0.0
                self.touch(env_id)
                yield []
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
                        await _next(FIRST_SECONDS)
                        self.touch(env_id)
                        yield sorted(heard)
                        await _next(GATHER_SECONDS)
                    elif silent >= PING_SECONDS:
                        silent = 0.0
                        yield None
        finally:
            self.listeners -= 1

    async def _progress(self, runs: list[str]) -> int:
        if not runs:
            return await self._engine.read(progress.of_lines)
        return await self._engine.read(lambda tx: progress.of_runs(tx, runs))


async def _next(step: float) -> None:
    """Sleep until the clock shows a multiple of `step`."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(step - now % step)
