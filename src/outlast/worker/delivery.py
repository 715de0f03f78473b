"""How results reach the code of one attempt: one at a time, in their recorded order, and a slot given back while nothing moves."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any

from outlast.model.journal import Entry
from outlast.worker.blocked import is_blocked, is_moving
from outlast.worker.link import Link
from outlast.worker.past import Past
from outlast.worker.scopes import Scope

log = logging.getLogger("outlast.worker")
LOOK_SECONDS = 0.25  # a run that waits and works at once is looked at again after this
NOWHERE = contextvars.Context()


class Delivery:
    """The half of a journal that the server speaks to. One object with its other half: many runs wait, and each object costs."""

    __slots__ = (
        "_arrived", "_asked", "_kept", "_known", "_link", "_look", "_loop", "_next", "_noted", "_resumed", "_root", "_said_blocked",
        "_scheduled", "_settling", "_short", "_tasks", "_threads_waiting", "_turns", "_waiting", "is_suspended", "past", "run_id",
    )  # fmt: skip

    def __init__(self, run_id: str, past: Past, link: Link) -> None:
        self.run_id = run_id
        self.past = past
        self.is_suspended = False
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[Entry]] = {}
        self._short: dict[str, None] = {}  # of those that wait: what is answered as soon as it is durable
        self._noted: dict[str, asyncio.Future[Entry | None]] = {}  # waits that want to know when they are durable
        self._arrived = {e.seq: e for e in self.past.recorded.values() if e.seq is not None}
        self._next = 0  # of the order of delivery
        self._known = 0  # completions that are here, without a gap
        self._tasks: dict[asyncio.Task[Any], Scope] = {}
        self._root: Scope | None = None
        self._threads_waiting = 0
        self._scheduled = False
        self._settling = False
        self._turns = 0
        self._said_blocked = False
        self._asked = False  # for a slot, since the code moves though it was said to wait
        self._kept: list[Callable[[], None]] = []  # what it wants until it has one
        self._resumed: asyncio.Future[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        self._count_known()

    @property
    def is_open(self) -> bool:
        """The function runs."""
        return self._root is not None

    # ---- the server's side

    def answered(self, entry: Entry) -> None:
        """An operation is durable now."""
        self.past.add(entry)
        self._note(entry.key, entry)
        self.arrive([entry])

    def arrive(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.seq is not None:
                self._arrived.setdefault(entry.seq, entry)
                self.past.add(entry)
        self._count_known()
        self.kick()

    def refused(self, key: str, error: Exception) -> None:
        self._note(key, None)
        if (future := self._waiting.get(key)) is not None and not future.done():
            future.set_exception(error)

    def unblocked(self, seen: int = -1) -> None:
        """It has a slot after all. The server knows of more than was `seen`: until that is here, who asks at once is refused again."""
        self._go_on()
        if self._known > seen:
            self.kick()
        else:
            self._loop.call_later(LOOK_SECONDS, self.kick, context=NOWHERE)

    def suspended(self) -> None:
        self.is_suspended = self._said_blocked and not self._asked

    def resume(self, entries: list[Entry]) -> None:
        if self._said_blocked:
            self._link.resumed()
        self._go_on()
        self.arrive(entries)

    def _go_on(self) -> None:
        self._said_blocked = self.is_suspended = self._asked = False
        kept, self._kept = self._kept, []
        for write in kept:
            write()
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    # ---- delivery

    def kick(self) -> None:
        if not self._scheduled and self._root is not None:
            self._scheduled = True
            self._loop.call_soon(self._turn, context=NOWHERE)

    def _turn(self) -> None:
        """One result, then wait until all it set in motion has come to rest, then the next."""
        self._scheduled = False
        if self._root is None:
            return
        try:
            self._step_on()
        except Exception:  # a defect of ours must not leave the run standing still
            log.exception("a turn of a run's journal failed", extra={"run_id": self.run_id})
            self._loop.call_later(LOOK_SECONDS, self.kick, context=NOWHERE)

    def _step_on(self) -> None:
        if self._settling:
            if is_moving(self._loop, self, self._turns):
                self._turns += 1
                return self.kick()
            self._settling = False
        if (following := self._following()) is not None:
            return self._deliver(following)
        if (len(self._waiting) > len(self._short) or self._early()) and not self._said_blocked:
            if is_moving(self._loop, self, self._turns):
                self._settling = True
                return self.kick()
            self._rest()
        return None

    def _deliver(self, entry: Entry) -> None:
        self.past.taken[entry.key] = None
        future = self._waiting.pop(entry.key)
        self._short.pop(entry.key, None)
        if not future.done():
            future.set_result(entry)
        self._settling, self._turns = True, 0
        self.kick()

    def _following(self) -> Entry | None:
        """The next completion in order, if the code has asked for it."""
        while (entry := self._arrived.get(self._next)) is not None:
            if entry.key not in self.past.taken:
                if entry.key not in self._waiting:
                    return None
                self._next += 1
                return entry
            self._next += 1
        return None

    def _rest(self) -> None:
        """Nothing moves. Does the run wait for durable operations only?"""
        self._turns = 0
        threads = self._threads_waiting > 0 if self._root is not None and self._root.owner is None else True
        early = self._early()
        durable = {future for key, future in self._waiting.items() if key not in self._short}
        if not threads or not is_blocked(self._tasks, durable | {self._waiting[e.key] for e in early}):
            if self._look is None or self._look.when() <= self._loop.time():
                self._look = self._loop.call_later(LOOK_SECONDS, self.kick, context=NOWHERE)
            return
        if early:  # the code does not ask for what comes next: it took another way. What it does ask for is not kept back
            return self._deliver(early[0])
        self._said_blocked = True
        self._link.blocked(self._known, [key for key in self._waiting if key not in self.past.recorded])

    def _early(self) -> list[Entry]:
        """What the code waits for and what is here, while something else should come first."""
        here = [e for key in self._waiting if (e := self.past.recorded.get(key)) is not None and e.seq is not None and e.seq >= self._next]
        return sorted(here, key=lambda e: e.seq or 0)

    def _count_known(self) -> None:
        while self._known in self._arrived:
            self._known += 1

    # ---- the slot

    def _write(self, write: Callable[[], None]) -> None:
        """Who moves has a slot: a run that is taken to be waiting asks for it first."""
        if not self._said_blocked:
            return write()
        self._kept.append(write)
        return self._wake()

    def _wake(self) -> None:
        if self._said_blocked and not self._asked:
            self._asked, self.is_suspended = True, False
            self._link.awake()

    async def has_slot(self) -> None:
        """Until it is the server's opinion too that the code of this run moves; or has ended, which is the same."""
        while self._said_blocked:
            self._wake()
            self._resumed = self._loop.create_future()
            await self._resumed

    def _note(self, key: str, entry: Entry | None) -> None:
        noted = self._noted.pop(key, None) if self._noted else None
        if noted is not None and not noted.done():
            noted.set_result(entry)
