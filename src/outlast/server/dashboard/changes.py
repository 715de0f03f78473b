"""What changed, as topics open pages listen to. The truth is the events table; pages then fetch what they show again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from outlast.engine.engine import Engine
from outlast.store import events
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.server")

LOOK_SECONDS = 0.25  # how often the table is asked while anybody listens
GATHER_SECONDS = 1.0  # a page hears at most this often
PING_SECONDS = 15.0
MAX_LISTENERS = 1_000
BATCH = 5_000
# what a change of a run may show on beside the run itself
RUN_TOPICS = ("runs", "home", "queues", "batches", "tasks", "workers", "tokens")

Topic = tuple[int, str]  # environment, name


@dataclass(eq=False)
class Listener:
    topics: frozenset[Topic]
    changed: set[str] = field(default_factory=set[str])
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Changes:
    """One follower of the events table for all pages of this server; it rests while nobody listens."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listeners: set[Listener] = set()
        self._following: asyncio.Task[None] | None = None
        self._revisions: dict[int, int] = {}
        self._closed = False

    def revision(self, env_id: int) -> int:
        return self._revisions.get(env_id, 0)

    @property
    def is_full(self) -> bool:
        return len(self._listeners) >= MAX_LISTENERS

    def tell(self, env_id: int, topics: Iterable[str]) -> None:
        """Something other than a run changed, here."""
        names = set(topics)
        self._revisions[env_id] = self.revision(env_id) + 1
        for listener in self._listeners:
            heard = {name for name in names if (env_id, name) in listener.topics}
            if heard:
                listener.changed |= heard
                listener.wake.set()

    async def listen(self, env_id: int, topics: Iterable[str]) -> AsyncIterator[list[str] | None]:
        """Lists of changed topics, and None now and then when there is nothing to say."""
        listener = Listener(frozenset((env_id, topic) for topic in topics))
        self._listeners.add(listener)
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(self._follow())
        try:
            while not self._closed:
                try:
                    await asyncio.wait_for(listener.wake.wait(), PING_SECONDS)
                except TimeoutError:
                    yield None
                    continue
                listener.wake.clear()
                if self._closed:
                    return
                heard, listener.changed = sorted(listener.changed), set()
                yield heard
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream: a server that stops does not wait for open pages."""
        self._closed = True
        for listener in self._listeners:
            listener.wake.set()
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        seen = await self._engine.read(events.newest)
        while self._listeners and not self._closed:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                fresh = await self._engine.read(lambda tx, after=seen: events.since(tx, after, BATCH))
            except DatabaseError as error:
                log.warning("the dashboard cannot follow events", extra={"error": str(error)})
                continue
            if not fresh:
                continue
            seen = fresh[-1][0]
            for env_id in {env_id for _, env_id, _ in fresh}:
                runs = {f"run:{run_id}" for _, env, run_id in fresh if env == env_id}
                self.tell(env_id, {*RUN_TOPICS, *runs})
