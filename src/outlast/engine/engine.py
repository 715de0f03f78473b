"""The engine: takes calls, groups them into flushes, and tells whom it concerns after each commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from outlast.engine.catalog import Catalog
from outlast.engine.claim import Claimed, Demand
from outlast.engine.clock import Chance, Clock, SystemClock
from outlast.engine.committer import Committer
from outlast.engine.flush import Flusher, Outcome
from outlast.engine.operation import Call, Operation
from outlast.engine.signals import Signals
from outlast.engine.view import Pushed, Told
from outlast.model.ids import IdFactory
from outlast.store import journal
from outlast.store.database import Connection, Database, DatabaseError

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

log = logging.getLogger("outlast.engine")

MAX_ITEMS = 200  # a flush in the loop's own thread holds it up for some 5 ms at most
READERS = 4


class Engine:
    """One committer over one database. `call` from the loop it was started in.

    `demand` says which executors have room; `deliver` and `tell` hand runs and cancels to them after the commit.
    """

    def __init__(self, database: Database, *, clock: Clock | None = None, chance: Chance | None = None, poll_ms: int = 5_000) -> None:
        self.database = database
        self.clock: Clock = clock or SystemClock()
        self.chance = chance or Chance()
        self.catalog = Catalog()
        self.signals = Signals()
        self.hurry = asyncio.Event()  # there is work that upkeep should not be late for
        self.poll_ms = poll_ms
        self.demand: Callable[[], Sequence[Demand]] = list
        self.connected: Callable[[], Collection[str]] = tuple
        self.deliver: Callable[[list[Claimed]], None] = _ignore
        self.tell: Callable[[list[Told]], None] = _ignore
        self.push: Callable[[list[Pushed]], None] = _ignore
        self.name = f"{self.chance.bits(64):016x}"
        ids = IdFactory(self.chance.bits)
        self._flusher = Flusher(database, self.catalog, self.clock, ids.new, time.sleep, lambda: self.connected(), self.name)
        self.new_id = ids.new
        self._waiting: deque[tuple[Call, asyncio.Future[Any]]] = deque()
        self._bulk: deque[tuple[Call, asyncio.Future[Any]]] = deque()
        self._flushing = False
        self._claim_wanted = True
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._committer: Committer | None = None  # None: flushes run in the loop's own thread
        self._readers = ThreadPoolExecutor(READERS, "outlast-reader")
        self._stop_listening = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_change: list[Callable[[], None]] = []
        self._on_topic: list[Callable[[int, str], None]] = []

    # ---- life

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        if not self.database.commits_inline:
            self._committer = Committer(self._loop)
        await self.refresh_clock()
        self.spawn(self._poll())
        if self.database.is_postgres:
            thread = threading.Thread(target=self._listen, name="outlast-listener", daemon=True)
            thread.start()

    async def close(self) -> None:
        """Finish what was accepted, then stop."""
        while self._waiting or self._bulk or self._flushing:
            await asyncio.sleep(0.001)
        self._closed = True
        self._stop_listening.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._committer is not None:
            self._committer.close()
        self._readers.shutdown()
        self.database.close()

    async def refresh_clock(self) -> None:
        if isinstance(self.clock, SystemClock) and self.database.is_postgres:
            ask = partial(self.database.clock_offset_ms, self.clock.offset_ms)
            self.clock.offset_ms = await asyncio.get_running_loop().run_in_executor(self._readers, ask)

    # ---- writing

    async def call(self, operation: Operation[I, R], item: I, *, bulk: bool = False) -> R:
        """Put an operation in front of the committer; its result once it is durable.

        Raises:
            DatabaseError: the database refused it, or cannot be reached; nothing was changed.
        """
        return await self.submit(operation, item, bulk=bulk)

    def submit(self, operation: Operation[I, R], item: I, *, bulk: bool = False) -> asyncio.Future[R]:
        """The same without awaiting: many at once cost no task each."""
        assert self._loop is not None, "the engine was not started"
        future: asyncio.Future[R] = self._loop.create_future()
        (self._bulk if bulk else self._waiting).append((Call(operation, item), future))
        self._kick()
        return future

    def wake(self) -> None:
        """Something may be claimable, or an executor has room: look."""
        self._claim_wanted = True
        self._kick()

    def _kick(self) -> None:
        if not self._flushing and not self._closed and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        batch: list[tuple[Call, asyncio.Future[Any]]] = []
        for queue in (self._waiting, self._bulk):
            while queue and len(batch) < MAX_ITEMS:
                batch.append(queue.popleft())
        calls = [call for call, _ in batch]
        # cleared before the claim looks, or a wake in between would be lost
        claim_wanted, self._claim_wanted = self._claim_wanted, False
        if self._committer is None:
            try:
                outcome = self._flusher.flush(calls, self._demands, look=claim_wanted)
            except BaseException as error:
                self._failed(batch, error)
                raise
            self._done(batch, outcome)
            return
        snapshot = self._demands()
        flush = partial(self._flusher.flush, calls, lambda: [_copy(d) for d in snapshot], look=claim_wanted)
        self._committer.submit(flush, partial(self._thread_done, batch))

    def _demands(self) -> Sequence[Demand]:
        return [_copy(d) for d in self.demand()]

    def _thread_done(self, batch: list[tuple[Call, asyncio.Future[Any]]], outcome: Outcome, error: BaseException | None) -> None:
        if error is not None:
            self._failed(batch, error)
        else:
            self._done(batch, outcome)

    def _failed(self, batch: list[tuple[Call, asyncio.Future[Any]]], error: BaseException) -> None:
        self._flushing = False
        for _, future in batch:
            if not future.done():
                future.set_exception(error)
        log.error("flush failed", exc_info=error)

    def _done(self, batch: list[tuple[Call, asyncio.Future[Any]]], outcome: Outcome) -> None:
        self._flushing = False
        if outcome.catalog_changed:
            self.catalog.forget()
        if outcome.claimed:
            self.deliver(outcome.claimed)
        if outcome.told:
            self.tell(outcome.told)
        if outcome.pushed:
            self.push(outcome.pushed)
        for call, future in batch:
            if future.done():
                continue  # the caller went away; the work is done all the same
            if call.error is not None:
                future.set_exception(call.error)
            else:
                future.set_result(call.outcome)
        self.signals.finished(outcome.finished)
        if outcome.changed:
            self._changed()
        for env_id, topic in outcome.topics:
            self._touched(env_id, topic)
        if outcome.has_work:
            self.hurry.set()
        if outcome.woken:
            self._claim_wanted = True
            self._kick_if_demand()
        if self._waiting or self._bulk:
            self._kick()

    def _kick_if_demand(self) -> None:
        if any(d.free > 0 for d in self.demand()):
            self._kick()

    async def write(self, statement: Callable[[Connection], R]) -> R:
        """A small transaction of its own, for what needs no run and no lane: keys, retention, repairs."""
        assert self._loop is not None
        if self._committer is None:
            return self._write(statement)
        return await self._committer.run(partial(self._write, statement))

    def _write(self, statement: Callable[[Connection], R]) -> R:
        with self.database.transaction() as tx:
            return statement(tx)

    # ---- reading

    async def read(self, query: Callable[[Connection], R]) -> R:
        """Run a read in a reader's thread, on a connection that never waits for the committer."""
        assert self._loop is not None
        return await self._loop.run_in_executor(self._readers, self._read, query)

    async def read_soon(self, query: Callable[[Connection], R]) -> R:
        """A short read that must not wait for the next flush: where flushes run in the loop's own thread, so does it."""
        return self._read(query) if self._committer is None else await self.read(query)

    def _read(self, query: Callable[[Connection], R]) -> R:
        try:
            with self.database.reading() as tx:
                return query(tx)
        except DatabaseError as error:
            if not error.unavailable:
                raise
        with self.database.reading() as tx:  # its connection may have died long since: this one is new
            return query(tx)

    # ---- who wants to know

    def on_change(self, call: Callable[[], None]) -> None:
        """Call it after each commit that changed a run, here or (as a hint) on another server."""
        self._on_change.append(call)

    def on_topic(self, call: Callable[[int, str], None]) -> None:
        """Call it with each (environment, topic) that is published, here or on another server."""
        self._on_topic.append(call)

    def publish(self, env_id: int, topic: str) -> None:
        """Tell every server that something changed which is no run. A hint: nothing is kept of it."""
        self._touched(env_id, topic)
        if self.database.is_postgres:
            self.spawn(self._hint(f"{self.name} topic:{env_id}:{topic}"))

    async def _hint(self, text: str) -> None:
        with contextlib.suppress(DatabaseError):  # whoever waits for it looks by itself, later
            await self.read(lambda tx: tx.all("SELECT pg_notify('outlast_wake', :text)", text=text))

    def _changed(self) -> None:
        for call in self._on_change:
            call()

    def _touched(self, env_id: int, topic: str) -> None:
        for call in self._on_topic:
            call(env_id, topic)

    # ---- other servers

    def _listen(self) -> None:
        listen = getattr(self.database, "listen", None)
        if listen is not None:
            listen(self._heard_elsewhere, self._stop_listening)

    def _heard_elsewhere(self, text: str) -> None:
        if self._loop is not None and not self._closed:
            self._loop.call_soon_threadsafe(self._heard, text)

    def _heard(self, text: str) -> None:
        """A hint from a server that committed: a lost one costs a poll, never a run."""
        sender, *words = text.split()
        if sender == self.name:
            return
        self._changed()
        for word in words:
            kind, _, rest = word.partition(":")
            match kind:
                case "env":
                    self._claim_wanted = True
                    self._kick_if_demand()
                case "finished":
                    self.signals.look_again()
                case "catalog":
                    self.catalog.forget()
                case "tell":
                    session, run_id, epoch = rest.split(":")
                    self.tell([Told(session, run_id, int(epoch))])
                case "topic":
                    env_id, _, topic = rest.partition(":")
                    self._touched(int(env_id), topic)
                case "push":
                    session, run_id, epoch, number, seq = rest.split(":")
                    self.spawn(self._push(session, run_id, int(epoch), int(number), int(seq)))
                case _:
                    pass

    async def _push(self, session: str, run_id: str, epoch: int, number: int, seq: int) -> None:
        with contextlib.suppress(DatabaseError):  # an executor that never hears of them is told when it says that it waits
            entries = await self.read(lambda tx: journal.since(tx, run_id, number, seq))
            self.push([Pushed(session, run_id, epoch, number, entry) for entry in entries])

    async def _poll(self) -> None:
        """The truth behind every hint."""
        while True:
            await asyncio.sleep(self.poll_ms / 1_000 * (0.8 + 0.2 * self.chance.uniform()))
            self.wake()
            self.signals.look_again()
            if self.database.is_postgres:
                self.catalog.forget()
                with contextlib.suppress(DatabaseError):  # the next poll asks again
                    await self.refresh_clock()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that ends with the engine at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _copy(d: Demand) -> Demand:
    return Demand(d.env_id, d.session, d.version, d.executor, d.kind, d.free)


def _ignore(_: Any) -> None:
    return
