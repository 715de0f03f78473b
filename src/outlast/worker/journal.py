"""The journal of one attempt, as its code meets it: keys in program order, results one at a time in their recorded order."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from outlast.durable import Slot, failure
from outlast.errors import DuplicateKeyError, OutsideRunError, RunCancelled
from outlast.model.journal import LONG, REFUSED, Entry, OpKind
from outlast.worker.blocked import is_blocked, is_moving
from outlast.worker.cancelling import say_if_timed_out
from outlast.worker.failures import refusal
from outlast.worker.link import Link
from outlast.worker.past import Past
from outlast.worker.scopes import NOBODY, Scope, counted, is_dropped, location, place_of, scope

T = TypeVar("T")
log = logging.getLogger("outlast.worker")
LOOK_SECONDS = 0.25  # a run that waits and works at once is looked at again after this
_NOWHERE = contextvars.Context()
Around = Callable[[str, Entry, dict[str, Any]], Awaitable[None]]  # kind of hook, the wait's entry, its arguments


class Journal:
    """`past`: what is recorded. `around`: called with on_wait and on_resume, when there are such hooks."""

    __slots__ = (
        "_arrived", "_asked", "_kept", "_known", "_link", "_look", "_loop", "_next", "_noted", "_resumed", "_root", "_said_blocked",
        "_scheduled", "_settling", "_short", "_tasks", "_threads_waiting", "_turns", "_waiting", "around", "fence", "is_stopped",
        "is_suspended", "past", "run_id",
    )  # fmt: skip

    def __init__(self, run_id: str, entries: list[Entry], link: Link, *, version: str = "", is_dev: bool = False) -> None:
        self.run_id = run_id
        self.past = Past(entries, version, is_dev=is_dev)
        self.is_suspended = self.is_stopped = False
        self.around: Around | None = None
        self._link = link
        self.fence = link.fence
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
        self._scheduled = self._settling = False
        self._turns = 0
        self._said_blocked = False
        self._asked = False  # for a slot, since the code moves though it was said to wait
        self._kept: list[Callable[[], None]] = []  # what it wants until it has one
        self._resumed: asyncio.Future[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        self._count_known()

    # ---- the code's side

    @property
    def is_open(self) -> bool:
        """The function runs."""
        return self._root is not None

    def is_here(self) -> bool:
        """Whether the code that asks belongs to the function: hooks and middleware do not."""
        return (here := scope.get()) is not None and here.journal is self

    def enter(self, task: asyncio.Task[Any] | None) -> contextvars.Token[Scope | None]:
        """The user's function begins, in this task or (None) in a thread."""
        root = self._root = Scope("r", self)
        if task is not None:
            root.owner = task
            self._tasks[task] = root
        return scope.set(root)

    def leave(self, token: contextvars.Token[Scope | None]) -> None:
        """It has ended: whatever still runs of it can make no operation any more."""
        self.close()
        scope.reset(token)

    def close(self) -> None:
        self._root = None
        if self._look is not None:
            self._look.cancel()

    def park(self) -> list[asyncio.Task[Any]]:
        """The coroutines of a run that goes on elsewhere. What was recorded is not kept for them."""
        if self._look is not None:
            self._look.cancel()
        for known in (self._arrived, self._waiting, self._short, self._noted):
            known.clear()
        self.past.clear()
        return list(self._tasks)

    def stop(self) -> None:
        """The run must stop: threads that wait hear of it here; coroutines are cancelled by their tasks, and who swallows that again."""
        self.is_stopped = True
        for future in list(self._waiting.values()):
            if not future.done() and self._threads_waiting:
                future.set_exception(RunCancelled("the run was cancelled"))

    def watch(self, task: asyncio.Task[Any], mine: Scope) -> None:
        self._tasks[task] = mine
        task.add_done_callback(self._gone, context=_NOWHERE)

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if self._waiting:
            self.kick()

    def slot(self, kind: OpKind, label: str, key: str | None, fingerprint: str, call: str) -> Slot:
        """The place of an operation, taken when it is called, in program order.

        Raises:
            JournalMismatch: another execution had another operation here.
            DuplicateKeyError, NestedDurableOpError, OutsideRunError, ScopeLostError, JournalTooLarge: as they say.
        """
        here = place_of(self, call, is_open=self.is_open)
        place = -1
        if key is None:
            name = f"{kind}:{label}"
            n = here.operations.get(name, 0)
            text = f"{here.path}/{name}#{n}"
            here.operations[name] = n + 1
            place, here.places = here.places, here.places + 1
        else:
            text = f"{here.path}/{kind}:{label}!{key}"
            if text in here.keys:
                raise DuplicateKeyError(f"{call}: key={key!r} is used twice in one place: give each call a key of its own")
            here.keys[text] = None
        here.mark()
        slot = Slot(text, kind, label, fingerprint, location(), place)
        self.past.check(here.path, slot, call)
        return slot

    def entry(self, slot: Slot) -> Entry | None:
        """What is recorded of it, or what an earlier attempt's equal step gave."""
        return self.past.find(slot)

    async def perform(self, slot: Slot, args: dict[str, Any]) -> Entry:
        """The entry of an operation, once it is complete and its turn has come.

        Raises:
            Unprocessable, RecursiveWaitDeadlock: the server refused it, now or when it was recorded.
            UndurableTimeout: a timeout of asyncio's ended it, in development.
        """
        if not self.is_open:
            raise OutsideRunError(f"{slot.kind} {slot.label!r} was begun after the task's function had ended")
        future: asyncio.Future[Entry] = self._loop.create_future()
        self._waiting[slot.key] = future
        if slot.kind not in LONG:
            self._short[slot.key] = None
        if slot.key not in self.past.recorded:
            self._write(lambda: self._link.operation(slot, args))
        self.kick()
        try:
            entry = await self._hooked(slot, args, future) if self.around is not None and slot.kind in LONG else await future
        except asyncio.CancelledError:
            if (self.is_open and not future.done()) or future.cancelled():
                self._forsake(slot.key)
                say_if_timed_out(scope.get(), slot, is_dev=self.past.is_dev)
            raise
        finally:
            self._waiting.pop(slot.key, None)
            self._short.pop(slot.key, None)
        if entry.value_type == REFUSED:
            raise refusal(failure(entry))
        return entry

    async def _hooked(self, slot: Slot, args: dict[str, Any], future: asyncio.Future[Entry]) -> Entry:
        assert self.around is not None
        if (begun := await self.noted(slot)) is None or begun.status != "pending":
            return await future
        await self.around("on_wait", begun, args)
        entry = await future
        await self.around("on_resume", entry, args)
        return entry

    async def noted(self, slot: Slot) -> Entry | None:
        """Its entry as soon as it is durable, pending or not; None when it was refused."""
        if (known := self.past.recorded.get(slot.key)) is not None:
            return known
        return await self._noted.setdefault(slot.key, self._loop.create_future())

    def _note(self, key: str, entry: Entry | None) -> None:
        noted = self._noted.pop(key, None) if self._noted else None
        if noted is not None and not noted.done():
            noted.set_result(entry)

    def _forsake(self, key: str) -> None:
        """The code stopped waiting: the result is never delivered, also not in a replay."""
        self.past.taken[key] = None
        entry = self.past.recorded.get(key)
        if entry is None or entry.status == "pending":
            self._link.abandoned(key, is_dropped(scope.get()))
        self._wake()
        self.kick()

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

    @contextmanager
    def waiting_for(self, tasks: set[asyncio.Task[Any]]) -> Generator[None]:
        """The current asyncio task waits for one of these."""
        if (here := scope.get()) is None:
            yield
            return
        here.waits_for = tasks
        try:
            yield
        finally:
            here.waits_for = NOBODY

    def skip(self, name: str) -> None:
        """A task of this name would be made here; it is passed over."""
        if (here := scope.get()) is not None:
            self.past.skip(here.child(name).path)
            self.kick()

    def drop(self, task: asyncio.Task[Any]) -> None:
        """What this task of the run made is of no use any more: the runs it waits for are cancelled with its waits."""
        if (mine := self._tasks.get(task)) is not None:
            mine.dropped = True

    def take(self, slot: Slot, args: Callable[[], dict[str, Any]]) -> Entry:
        """An operation that needs no waiting: its value is made here, or was recorded."""
        self.past.taken[slot.key] = None
        entry = self.past.recorded.get(slot.key)
        if entry is None:
            made = args()
            entry = Entry(slot.key, slot.kind, slot.label, slot.fingerprint, "ok", None, made.get("value"), made.get("value_type"))
            self.past.add(entry)
            self._in_loop(lambda: self._write(lambda: self._link.operation(slot, made)))
        self._in_loop(self.kick)
        return entry

    def _in_loop(self, call: Callable[[], None]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._loop.call_soon_threadsafe(call)
        else:
            call()

    def block(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do it from the thread of a `def` task, and wait."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("a blocking call in an `async def` task would stop the executor: await the same call from `outlast`")
        self._threads_waiting += 1
        try:
            return asyncio.run_coroutine_threadsafe(counted(start), self._loop).result()
        finally:
            self._threads_waiting -= 1

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

    def unblocked(self) -> None:
        """The server knows of something newer; it is on its way."""
        self._go_on()
        self.kick()

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
            self._loop.call_soon(self._turn, context=_NOWHERE)

    def _turn(self) -> None:
        """One result, then wait until all it set in motion has come to rest, then the next."""
        self._scheduled = False
        if self._root is None:
            return
        try:
            self._step_on()
        except Exception:  # a defect of ours must not leave the run standing still
            log.exception("a turn of a run's journal failed", extra={"run_id": self.run_id})
            self._loop.call_later(LOOK_SECONDS, self.kick, context=_NOWHERE)

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
                self._look = self._loop.call_later(LOOK_SECONDS, self.kick, context=_NOWHERE)
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
