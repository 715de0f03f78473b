"""The change feed: one reader of the outbox for this process, and whoever wants to hear of runs, tags, batches or topics.

See `docs/internals/realtime.md`.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from outlast.engine.engine import Engine
from outlast.server.realtime.state import Pair, pairs
from outlast.store import outbox
from outlast.store.database import Connection, DatabaseError
from outlast.store.outbox import Change, Position

log = logging.getLogger("outlast.realtime")

READ = 1_000  # changes in one read
KEPT = 30_000  # changes remembered for clients that are between two polls: some 10 MB
QUEUED = 1_000  # changes a subscriber may be behind; one that is slower must look at the database again
PACE_SECONDS = 0.004  # between two reads: a busy engine is read some hundred times a second, not after each commit
UNSETTLED_SECONDS = 0.01  # until a transaction that is committed already may be given out
KNOWN = 10_000  # runs whose last change is remembered after nobody watches them any more
ANY_RUN = "any run"  # a topic of every environment: some run of it changed, whichever and however often since the last look
SMALL_CHARS = 4_096  # of a run that is remembered itself, and need not be read again for each of its subscribers
LINGER_SECONDS = 60.0  # the outbox is read this long after the last subscriber left: a client that polls comes back

Key = tuple[str, int, str]  # what a subscription is about: kind, environment, name


class Taken(NamedTuple):
    """`missed`: older changes were dropped, so look at the database before you go on."""

    changes: list[Change]
    topics: set[str]
    missed: bool


class Known(NamedTuple):
    """The last change of a run that was handed out; `pair` is the run after it, unless it is large."""

    n: int
    pair: Pair | None


_NOTHING = Known(-1, None)


class Subscription:
    """Changes for one subscriber, from the moment its block is entered. `position` is where they begin."""

    def __init__(self, feed: Feed, keys: Iterable[Key], all_tags: frozenset[str]) -> None:
        self.position = Position(0, 0)
        self.keys = list(keys)
        self._feed = feed
        self._all_tags = all_tags  # of the tags it watches, a run must have all
        self._changes: deque[Change] = deque()
        self._topics: set[str] = set()
        self._missed = False
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False

    async def __aenter__(self) -> Self:
        await self._feed.enter(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._feed.leave(self)

    async def take(self, timeout: float | None = None) -> Taken:
        """All that has come since the last call; empty when nothing came in `timeout` seconds, or when the server stops."""
        if not (self._changes or self._topics or self._missed or self.closed):
            # one future and no more: a busy engine flushes between any two turns of the loop, and each turn would cost that
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout, self.wake) if timeout is not None else None
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        taken = Taken(list(self._changes), self._topics, self._missed)
        self._changes.clear()
        self._topics, self._missed = set(), False
        return taken

    async def __aiter__(self) -> AsyncIterator[Change | None]:
        """Change by change, until the server stops; None says that older ones were dropped: look at the database."""
        while not self.closed:
            taken = await self.take()
            if taken.missed:
                yield None
            for change in taken.changes:
                yield change

    def put(self, change: Change) -> None:
        if not self._all_tags <= set(change.tags or ()):
            return
        if len(self._changes) >= QUEUED:
            self._changes.clear()
            self._missed = True
        self._changes.append(change)
        self.wake()

    def touch(self, topic: str) -> None:
        self._topics.add(topic)
        self.wake()

    def wake(self) -> None:
        """Let `take` return with what there is."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def wants(self, change: Change) -> bool:
        """Whether it would have been given this change."""
        return any(key in self.keys for key in _keys_of(change)) and self._all_tags <= set(change.tags or ())


class Feed:
    """One for each server process, over its engine. Nobody subscribed: nothing is read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._watchers: dict[Key, set[Subscription]] = {}
        self._tag_watchers: Counter[int] = Counter()  # by environment
        self._tagged_until: dict[int, float] = {}  # environments in which tags were watched a moment ago
        self._known: dict[str, Known] = {}  # of runs that are or were watched
        self._ring: deque[Change] = deque(maxlen=KEPT)
        self._floor: Position | None = None  # the ring holds all that came after it
        self._position: Position | None = None
        self._starting: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._idle_since: float | None = None
        self.closed = False
        engine.on_change(self._look.set)
        engine.on_topic(self._touched)

    def subscribe(
        self,
        env_id: int,
        *,
        runs: Iterable[str] = (),
        tags: Iterable[str] = (),
        batches: Iterable[str] = (),
        topics: Iterable[str] = (),
        everything: bool = False,
    ) -> Subscription:
        """Changes of these runs, of these batches, of every run of the environment, or of runs that have all these tags (alone).

        `topics` are words that somebody publishes for what is no run: see `publish`.

        Example:
            >>> async with feed.subscribe(env.id, runs=[run_id]) as changes:  # doctest: +SKIP
            ...     async for change in changes: ...
        """
        tags = frozenset(tags)
        assert not tags or not (runs or batches or topics or everything), "tags are watched alone"
        keys: list[Key] = [("run", env_id, run_id) for run_id in runs]
        keys += [("tag", env_id, tag) for tag in sorted(tags)[:1]]  # found by one tag, then looked at for all
        keys += [("batch", env_id, batch_id) for batch_id in batches]
        keys += [("topic", env_id, topic) for topic in topics]
        if everything:
            keys.append(("all", env_id, ""))
        return Subscription(self, keys, tags)

    def publish(self, env_id: int, topic: str) -> None:
        """Something changed that is no run: whoever subscribed to this topic is woken, on every server."""
        self._engine.publish(env_id, topic)

    async def since(self, subscription: Subscription, position: Position) -> list[Change] | None:
        """What it would have been given since that position; None: that is not remembered, begin anew."""
        if self._floor is None or position < self._floor:
            return None
        start = bisect_right(self._ring, position, key=lambda change: change.position)
        found = [self._ring[i] for i in range(start, len(self._ring))]
        if subscription.keys[0][0] == "tag" and any(change.tags is None for change in found):
            await self._engine.read(lambda tx: outbox.add_tags(tx, found))
        return [change for change in found if subscription.wants(change)]

    def close(self) -> None:
        """The server stops: every subscription ends."""
        self.closed = True
        for subscription in {s for watchers in self._watchers.values() for s in watchers}:
            subscription.closed = True
            subscription.wake()

    def known(self, run_id: str) -> Known:
        """What is known of a run without asking the database: a later change of it has not been handed out yet."""
        return self._known.get(run_id, _NOTHING)

    def note(self, pair: Pair) -> None:
        """The run was read while it was watched: later changes of it are still to come."""
        run = pair[0]
        if run.id in self._known and self._known[run.id].n < run.snapshot:
            self._known[run.id] = Known(run.snapshot, pair if _is_small(pair) else None)

    @property
    def position(self) -> Position:
        """All up to here has been handed out."""
        return self._position or Position(0, 0)

    # ---- subscriptions

    async def enter(self, subscription: Subscription) -> None:
        for key in subscription.keys:
            self._watchers.setdefault(key, set()).add(subscription)
            if key[0] == "tag":
                self._tag_watchers[key[1]] += 1
            if key[0] == "run":
                self._known.setdefault(key[2], _NOTHING)
        self._idle_since = None
        try:
            await self._started()
        except BaseException:
            self.leave(subscription)
            raise
        assert self._position is not None
        subscription.position = self._position
        subscription.closed = self.closed

    def leave(self, subscription: Subscription) -> None:
        now = asyncio.get_running_loop().time()
        for key in subscription.keys:
            watchers = self._watchers.get(key, set())
            watchers.discard(subscription)
            if not watchers:
                self._watchers.pop(key, None)
            if key[0] == "tag":
                self._tag_watchers[key[1]] -= 1
                self._tagged_until[key[1]] = now + LINGER_SECONDS
        if not self._watchers:
            self._idle_since = now

    async def _started(self) -> None:
        if self._position is not None:
            return
        if self._starting is None:
            self._starting = self._engine.spawn(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        try:
            self._floor = self._position = await self._engine.read(outbox.newest)
            self._engine.spawn(self._run())
        finally:
            self._starting = None

    # ---- reading

    async def _run(self) -> None:
        """Read when the engine says that something was committed, and now and then in case nobody said it."""
        loop = asyncio.get_running_loop()
        while not self._is_idle(loop.time()):
            wait = self._engine.poll_ms / 1_000
            try:
                more, unsettled = await self._read()
                wait = 0 if more else UNSETTLED_SECONDS if unsettled else wait
            except Exception as error:  # whatever it was, subscribers must not wait for ever
                log.warning("the change feed could not be read", exc_info=None if isinstance(error, DatabaseError) else error)
                wait = min(1.0, wait)
            if not wait:
                continue
            await asyncio.sleep(PACE_SECONDS)
            try:
                async with asyncio.timeout(min(wait, LINGER_SECONDS)):
                    await self._look.wait()
            except TimeoutError:
                continue
        self._position = self._floor = None
        self._ring.clear()
        self._known.clear()

    def _is_idle(self, now: float) -> bool:
        return self._idle_since is not None and not self._watchers and now - self._idle_since >= LINGER_SECONDS

    async def _read(self) -> tuple[bool, bool]:
        """Whether there is more to read, and whether something is to come that cannot be given out yet."""
        self._look.clear()  # before the read: what is committed during it is seen by the next one
        position, now = self._position, asyncio.get_running_loop().time()
        assert position is not None
        tagged = {env_id for env_id, n in self._tag_watchers.items() if n or self._tagged_until[env_id] > now}

        def query(tx: Connection) -> tuple[list[Change], bool, dict[str, Pair]]:
            changes, unsettled = outbox.after(tx, position, READ)
            outbox.add_tags(tx, changes, tagged)
            return changes, unsettled, pairs(tx, {change.run_id for change in changes if change.run_id in self._known})

        changes, unsettled, found = await self._engine.read_soon(query)
        for change in changes:
            if change.run_id in self._known:
                pair = found.get(change.run_id)
                self._known[change.run_id] = Known(change.n, pair if pair is not None and _is_small(pair) else None)
        for change in changes:
            self._hand_out(change)
        for env_id in {change.env_id for change in changes}:
            self._touched(env_id, ANY_RUN)
        self._forget()
        return len(changes) == READ, unsettled

    def _forget(self) -> None:
        """Runs that nobody watches any more, the oldest first."""
        surplus = len(self._known) - KNOWN
        if surplus > 0:
            watched = {name for kind, _, name in self._watchers if kind == "run"}
            for run_id in [run_id for run_id in self._known if run_id not in watched][:surplus]:
                del self._known[run_id]

    def _hand_out(self, change: Change) -> None:
        if len(self._ring) == KEPT:
            self._floor = self._ring[0].position
        self._ring.append(change)
        self._position = change.position
        given: set[Subscription] = set()
        for key in _keys_of(change):
            for subscription in self._watchers.get(key, ()):
                if subscription not in given:
                    given.add(subscription)
                    subscription.put(change)

    def _touched(self, env_id: int, topic: str) -> None:
        for subscription in self._watchers.get(("topic", env_id, topic), ()):
            subscription.touch(topic)


def _is_small(pair: Pair) -> bool:
    data = pair[1]
    return sum(len(text or "") for text in (data.payload, data.output, data.metadata, data.error)) <= SMALL_CHARS


def _keys_of(change: Change) -> Sequence[Key]:
    env_id = change.env_id
    keys: list[Key] = [("run", env_id, change.run_id), ("all", env_id, "")]
    if change.batch_id is not None:
        keys.append(("batch", env_id, change.batch_id))
    keys += [("tag", env_id, tag) for tag in change.tags or ()]
    return keys
