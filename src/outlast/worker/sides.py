"""What the code of one attempt writes beside its journal: numbered by scope and target, gathered for a moment, sent in order.

A replay makes the same writes again: as many of them as the journal has counted are passed over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from outlast.durable import in_step
from outlast.errors import Unprocessable
from outlast.model import metadata
from outlast.model.journal import Entry, count_key
from outlast.model.limits import MAX_SIDE_ITEMS
from outlast.model.messages import Refused, Side, SideItem
from outlast.model.metadata import AnyOp, Increment, Set
from outlast.worker.scopes import scope

if TYPE_CHECKING:
    from outlast.worker.held import Held
    from outlast.worker.journal import Journal

FLUSH_SECONDS = 0.05  # gathered for so long: a subscriber sees a write within a tenth of a second, and each flush is a row of history
FLUSH_ITEMS = 500  # or until there are so many
FLUSH_BYTES = 256 * 1024
MAX_UNANSWERED = 4  # messages under way, then whoever pipes waits for the server
OUTSIDE = "~"  # hooks and middleware: they have no place in the function's tree of tasks
_encode = msgspec.json.encode


class Writer(Protocol):
    """The executor, which sends what is written."""

    def next_number(self) -> int: ...
    def send(self, message: Side) -> None: ...


class Sides:
    """Of one attempt. Code writes from coroutines and threads; messages leave in the executor's loop."""

    def __init__(self, held: Held, journal: Journal, writer: Writer, counts: list[Entry]) -> None:
        self._held = held
        self._journal = journal
        self._number = held.push.journal
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._counted = {entry.key: int(entry.value or 0) for entry in counts}
        self._written: dict[str, int] = {}
        self._waiting: list[tuple[str, SideItem | _Change]] = []
        self._bytes = 0
        self._lock = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered: set[int] = set()
        self._problem: str | None = None
        self._settled: asyncio.Future[None] | None = None
        self._metadata = held.sides.metadata if held.sides is not None else None  # of the attempt before, tried again here

    # ---- the code's side

    @property
    def metadata(self) -> dict[str, Any]:
        if self._metadata is None:
            text = self._held.push.metadata
            found: Any = msgspec.json.decode(text) if text else {}
            self._metadata = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        return self._metadata

    def change(self, whose: str, op: AnyOp) -> None:
        with self._lock:
            place = self._place(target := f"metadata/{whose}")
            if place is None:
                return
            if whose == "self":
                self._metadata, _ = metadata.apply(self.metadata, [_own(op)])
            self._add(target, _Change(*place, op))

    def stream(self, whose: str, key: str, text: str) -> None:
        with self._lock:
            place = self._place(target := f"stream/{whose}/{key}")
            if place is not None:
                self._add(target, SideItem(*place, text))

    async def room(self) -> None:
        if len(self._unanswered) > MAX_UNANSWERED or len(self._waiting) > 2 * FLUSH_ITEMS:
            await self.flushed()

    def _place(self, target: str) -> tuple[str, int] | None:
        """(scope, number) of a write; None when an execution before this one has made it."""
        here = scope.get()
        where = here.path if here is not None and here.journal is self._journal else OUTSIDE
        if (step := in_step.get()) is not None:
            where = f"step {step}"  # a recorded step is not run again, so what it writes is counted by itself
        key = count_key(where, target)
        index = self._written.get(key, 0)
        self._written[key] = index + 1
        return None if index < self._counted.get(key, 0) else (where, index)

    def _add(self, target: str, item: SideItem | _Change) -> None:
        last = self._waiting[-1] if self._waiting else None
        folded = _folded(last[1], item) if last is not None and last[0] == target else None
        if folded is not None:
            self._waiting[-1] = (target, folded)
        else:
            self._waiting.append((target, item))
            self._bytes += len(item.value) if isinstance(item, SideItem) else 100
        self._in_loop(self.send if len(self._waiting) >= FLUSH_ITEMS or self._bytes >= FLUSH_BYTES else self._later)

    def _in_loop(self, call: Callable[[], None]) -> None:
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            self._loop.call_soon(call) if call == self.send else call()
        else:
            self._loop.call_soon_threadsafe(call)

    def _later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_SECONDS, self.send)

    async def flushed(self) -> None:
        self.send()
        if self._unanswered:
            if self._settled is None:
                self._settled = self._loop.create_future()
            await asyncio.shield(self._settled)
        problem, self._problem = self._problem, None
        if problem is not None:
            raise Unprocessable(problem, status=422)

    def block(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        work.close()
        raise RuntimeError("a blocking call in an `async def` task would stop the executor: await the same call from `outlast`")

    # ---- the server's side

    def send(self) -> None:
        """All that was written until now, before whatever the run says next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting, self._bytes = self._waiting, [], 0
        by_target: dict[str, list[SideItem]] = {}
        for target, item in waiting:
            by_target.setdefault(target, []).append(item if isinstance(item, SideItem) else item.encoded())
        push = self._held.push
        if self._held.abandoned or push.journal != self._number:
            return  # what is left of an earlier attempt says nothing any more
        for target, items in by_target.items():
            for start in range(0, len(items), MAX_SIDE_ITEMS):
                n = self._writer.next_number()
                self._unanswered.add(n)
                part = items[start : start + MAX_SIDE_ITEMS]
                self._writer.send(Side(n, push.run_id, push.epoch, push.journal, target, part))

    def answered(self, n: int, refused: Refused | None = None) -> None:
        self._unanswered.discard(n)
        if refused is not None:
            self._problem = refused.message
        if not self._unanswered and self._settled is not None:
            self._settled.set_result(None)
            self._settled = None


class _Change(msgspec.Struct, frozen=True, array_like=True):
    """An operation on metadata that may still be folded with the next one."""

    scope: str
    index: int
    op: AnyOp

    def encoded(self) -> SideItem:
        return SideItem(self.scope, self.index, _encode(self.op).decode())


def _folded(last: SideItem | _Change, item: SideItem | _Change) -> _Change | None:
    """Two operations as one, if that does the same: a progress bar in a tight loop is a few operations a second."""
    if not isinstance(last, _Change) or not isinstance(item, _Change) or last.scope != item.scope:
        return None
    match last.op, item.op:
        case Set(key=a), Set(key=b) if a == b:
            return item
        case Increment(key=a, value=x), Increment(key=b, value=y) if a == b:
            return _Change(item.scope, item.index, Increment(a, x + y))
        case _:
            return None


def _own(op: AnyOp) -> AnyOp:
    """A copy: what the code goes on changing must not change what was written."""
    return msgspec.json.decode(_encode(op), type=AnyOp)
