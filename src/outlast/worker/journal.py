"""The journal of one attempt, as its code meets it: keys in program order, results one at a time in their recorded order."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from outlast.durable import Slot, failure
from outlast.errors import DuplicateKeyError, OutsideRunError, RunCancelled
from outlast.model.journal import KEEP, LONG, REFUSED, Entry, OpKind
from outlast.worker.cancelling import say_if_timed_out
from outlast.worker.delivery import NOWHERE, Delivery
from outlast.worker.drivers import blocked_at, say_what_is_held
from outlast.worker.failures import refusal
from outlast.worker.link import Link
from outlast.worker.past import Past
from outlast.worker.scopes import NOBODY, Scope, counted, is_dropped, location, place_of, scope

T = TypeVar("T")
Around = Callable[[str, Entry, dict[str, Any]], Awaitable[None]]  # kind of hook, the wait's entry, its arguments


class Journal(Delivery):
    """`past`: what is recorded. `around`: called with on_wait and on_resume, when there are such hooks."""

    __slots__ = ("_marked", "_marks", "around", "fence", "is_stopped")

    def __init__(self, run_id: str, entries: list[Entry], link: Link, *, version: str = "", is_dev: bool = False) -> None:
        super().__init__(run_id, Past(entries, version, is_dev=is_dev), link)
        self.is_stopped = False
        self.around: Around | None = None
        self.fence = link.fence
        self._marks: set[str] | None = None  # values that were given to the code and are not durable yet
        self._marked: asyncio.Future[None] | None = None

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
        if self._root is not None and self._root.owner is not None:
            self._tasks.pop(self._root.owner, None)
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
        task.add_done_callback(self._gone, context=NOWHERE)

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
            if slot.kind in LONG and self.past.is_dev:
                say_what_is_held(f"{slot.kind} {slot.label!r}")
            if slot.kind != "step" and (known := self.past.find(slot)) is not None:
                args = _kept(known)
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

    def _forsake(self, key: str) -> None:
        """The code stopped waiting: the result is never delivered, also not in a replay."""
        self.past.taken[key] = None
        entry = self.past.recorded.get(key)
        if entry is None or entry.status == "pending":
            self._link.abandoned(key, is_dropped(scope.get()))
        self._wake()
        self.kick()

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
            known = self.past.find(slot)
            made = args() if known is None else _kept(known)
            entry = Entry(slot.key, slot.kind, slot.label, slot.fingerprint, "ok", None, made.get("value"), made.get("value_type"))
            self.past.add(entry)
            self._marks = self._marks or set()
            self._marks.add(slot.key)
            self._in_loop(lambda: self._write(lambda: self._link.operation(slot, made)))
        self._in_loop(self.kick)
        return entry

    def keep(self) -> None:
        """What goes well in this attempt is kept by the next, if it fails."""
        slot = Slot(KEEP, "mark", "retry_journal", "", "", -1)
        self.past.check("r", slot, "retry_journal")
        self.take(slot, dict)

    def leave_children(self) -> None:
        """The attempt has failed and another will make its own. Those that have an idempotency key are found again and go on."""
        keeps = KEEP in self.past.recorded
        known = self.past.recorded.values()
        made = [e.key for e in known if e.status == "pending" or (not keeps and e.kind in ("trigger", "batch"))]
        for key in {**dict.fromkeys(made), **dict.fromkeys(self._waiting)}:
            self._link.abandoned(key, True, again=True)

    async def settled(self) -> None:
        """Until the values that the code took are durable. What a step does with them, it must do with the same ones in a replay."""
        while self._marks:
            self._marked = self._marked or self._loop.create_future()
            await asyncio.shield(self._marked)

    def answered(self, entry: Entry) -> None:
        if self._marks:
            self._marks.discard(entry.key)
            if not self._marks and self._marked is not None:
                self._marked.set_result(None)
                self._marked = None
        super().answered(entry)

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
        token = blocked_at.set(sys._getframe(1) if self.past.is_dev else None)  # pyright: ignore[reportPrivateUsage]
        try:
            return asyncio.run_coroutine_threadsafe(counted(start), self._loop).result()
        finally:
            self._threads_waiting -= 1
            blocked_at.reset(token)


def _kept(known: Entry) -> dict[str, Any]:
    """Recorded again as an earlier attempt had it: nothing is made, nothing is waited for."""
    return {"kept": True, "value": known.value, "value_type": known.value_type, "ref": known.ref}
