"""Races: which of several waits came first is recorded, so that a replay takes the same way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from outlast import durable
from outlast.durable import Durable, Slot
from outlast.errors import InvalidValue
from outlast.pending import Pending
from outlast.results import Result

T = TypeVar("T", covariant=True)
Accept = Callable[[Any], bool]


class Won(Generic[T]):
    """Which wait won, counted from 0, and what it gave."""

    __match_args__ = ("index", "value")
    __slots__ = ("index", "value")

    def __init__(self, index: int, value: T) -> None:
        self.index = index
        self.value = value

    def __repr__(self) -> str:
        return f"Won(index={self.index}, value={self.value!r})"


def first(*waits: Awaitable[T]) -> Pending[Won[T]]:
    """The first of several waits to end; the others are abandoned, what they made goes on. Its error is raised.

    Raises:
        OutsideRunError: outside of a task.
        InvalidValue: nothing to wait for.
    """
    return _race("wait.first(…)", "first", waits, lambda _: True)


def any_(*waits: Awaitable[T]) -> Pending[Won[T]]:
    """The first of several waits to succeed: no error, and no Result that is not ok. If none does, the last failure is given.

    Raises:
        OutsideRunError: outside of a task.
        InvalidValue: nothing to wait for.
    """
    return _race("wait.any(…)", "any", waits, _is_success)


def _is_success(task: Any) -> bool:
    if task.cancelled() or task.exception() is not None:
        return False
    value = task.result()
    return not isinstance(value, Result) or value.ok


async def as_completed(*waits: Awaitable[T]) -> AsyncIterator[tuple[int, T]]:
    """`async for index, value in wait.as_completed(…)`: each as it ends, in an order that is recorded. An error is raised in its turn.

    Raises:
        OutsideRunError: outside of a task.
    """
    import asyncio

    call = "wait.as_completed(…)"
    here = durable.required(call)
    tasks: dict[int, asyncio.Task[Any]] = {i: asyncio.ensure_future(w) for i, w in enumerate(waits)}  # type: ignore[arg-type]
    try:
        while tasks:
            index = await _winner(here, here.slot("mark", "as_completed", None, "", call), tasks, lambda _: True)
            yield index, await tasks.pop(index)
    finally:
        for task in tasks.values():
            task.cancel()


def _race(call: str, label: str, waits: tuple[Awaitable[Any], ...], accept: Accept) -> Pending[Won[Any]]:
    here = durable.required(call)
    if not waits:
        raise InvalidValue(f"{call}: there is nothing to wait for")
    slot = here.slot("mark", label, None, str(len(waits)), call)

    async def go() -> Won[Any]:
        import asyncio

        tasks: dict[int, asyncio.Task[Any]] = {i: asyncio.ensure_future(w) for i, w in enumerate(waits)}  # type: ignore[arg-type]
        try:
            index = await _winner(here, slot, tasks, accept)
            return Won(index, await tasks[index])
        finally:
            losers = [task for task in tasks.values() if not task.done()]
            for task in losers:
                task.cancel()
            await asyncio.gather(*losers, return_exceptions=True)

    return Pending(call, go)


async def _winner(here: Durable, slot: Slot, tasks: dict[int, Any], accept: Accept) -> int:
    """The recorded winner, or the first that is acceptable now."""
    import asyncio

    known = here.entry(slot)
    if known is None:
        open_ = set(tasks.values())
        done: set[Any] = set()
        while open_ and not any(accept(task) for task in done):
            with here.waiting_for(open_):
                new, open_ = await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)
            done |= new
        good = [i for i, task in tasks.items() if task in done and accept(task)]
        index = good[0] if good else max(i for i, task in tasks.items() if task in done)
        here.take(slot, lambda: {"value": str(index), "value_type": "application/json"})
        return index
    index = msgspec.json.decode(here.take(slot, dict).value or "0", type=int)
    with here.waiting_for({tasks[index]}):
        await asyncio.wait([tasks[index]])
    return index
