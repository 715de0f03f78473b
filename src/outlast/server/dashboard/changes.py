"""What changed, as topics open pages listen to; pages then fetch what they show again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable

from outlast.engine.engine import Engine
from outlast.server.realtime.feed import ANY_RUN, Feed
from outlast.store import progress

FIRST_SECONDS = 0.25  # who waited hears at the next quarter of a second
GATHER_SECONDS = 1.0  # and then at most this often; all pages at the same moments, so that they share what is drawn
DRAWING_TIMES = 20  # a busy server draws slowly: its pages hear after so many times what a drawing takes,
MAX_GATHER_SECONDS = 3.0  # or after this, so that those who look take little from those who work
LATE_SECONDS = 0.001  # a clock that is read a little too early would make a page wait for another step
LOOK_SECONDS = 0.5  # a journal and a log say nothing to the feed: an open run is looked at this often
AGAIN_SECONDS = 5.0  # quiet after a change: it is told once more, for what is counted rarely (`charts.Shelf`) and was older
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
        self._drawing = 0.0

    @property
    def is_full(self) -> bool:
        return self.listeners >= MAX_LISTENERS

    def told_at(self, env_id: int) -> float:
        """When, on the loop's clock, pages of an environment last heard of a change: what was drawn before is old."""
        return self._told_at.get(env_id, 0.0)

    def touch(self, env_id: int) -> None:
        """Somebody acted: what was drawn before is old."""
        self._told_at[env_id] = asyncio.get_running_loop().time()

    def drew(self, seconds: float) -> None:
        """What a drawing took; the mean of the last few counts."""
        self._drawing += (seconds - self._drawing) / 4

    def tell(self, env_id: int, topics: Iterable[str]) -> None:
        """Something other than a run changed."""
        self.touch(env_id)
        for topic in topics:
            self._feed.publish(env_id, topic)

    async def listen(self, env_id: int, topics: Collection[str]) -> AsyncGenerator[list[str] | None, None]:
        """An empty list when it begins to hear, lists of changed topics, and None when there was long nothing to say.

        It ends when the server stops.
        """
        runs = [topic[4:] for topic in topics if topic.startswith("run:")]
        about_runs = RUN_TOPICS & set(topics)
        looks = bool(runs) or "logs" in topics
        self.listeners += 1
        try:
            async with self._feed.subscribe(env_id, runs=runs, topics={*topics, ANY_RUN} if about_runs else topics) as changes:
                before, silent, last = await self._progress(runs) if looks else 0, 0.0, set[str]()
                self.touch(env_id)
                yield []
                while not changes.closed:
                    wait = LOOK_SECONDS if looks else AGAIN_SECONDS
                    taken = await changes.take(wait)
                    heard = set(topics) if taken.missed else taken.topics & set(topics) | {f"run:{c.run_id}" for c in taken.changes}
                    if ANY_RUN in taken.topics:
                        heard |= about_runs
                    if looks and (now := await self._progress(runs)) != before:
                        before = now
                        heard |= {topic for topic in topics if topic.startswith("run:") or topic == "logs"}
                    silent = 0.0 if heard else silent + wait
                    heard, last = (last, set[str]()) if silent >= AGAIN_SECONDS else (heard, heard or last)
                    if heard:
                        await _next(FIRST_SECONDS)
                        self.touch(env_id)
                        yield sorted(heard)
                        await self._gather()
                    elif silent >= PING_SECONDS:
                        silent = 0.0
                        yield None
        finally:
            self.listeners -= 1

    async def _gather(self) -> None:
        """Until pages may hear again. All see the same numbers at the same moments, so they go on together."""
        loop = asyncio.get_running_loop()
        told = loop.time() // GATHER_SECONDS * GATHER_SECONDS
        await _next(GATHER_SECONDS)
        while loop.time() - told < min(MAX_GATHER_SECONDS, DRAWING_TIMES * self._drawing):
            await _next(GATHER_SECONDS)

    async def _progress(self, runs: list[str]) -> int:
        if not runs:
            return await self._engine.read(progress.of_lines)
        return await self._engine.read(lambda tx: progress.of_runs(tx, runs))


async def _next(step: float) -> None:
    """Sleep until the clock shows a multiple of `step`."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep(step - now % step + LATE_SECONDS)
