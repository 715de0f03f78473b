"""Races: which of several waits came first is recorded, so that a replay takes the same way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from outlast import durable
from outlast.durable import Durable, Slot
from outlast.errors import InvalidValue, WaitTimedOut
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


def first(*waits: Awaitable[T], timeout: str | float | None = None, cancel_losers: bool = False) -> Pending[Won[T]]:
    """The first of several waits to end; the others are abandoned. Its error is raised.

    The runs that the others wait for go on, unless `cancel_losers`. `timeout`: "1h30m", or seconds.

    Raises:
        OutsideRunError: outside of a task.
        InvalidValue: nothing to wait for.
        WaitTimedOut: none ended in time.
    """
    return _race("wait.first(…)", "first", waits, lambda _: True, timeout, cancel_losers)


def any_(*waits: Awaitable[T], timeout: str | float | None = None, cancel_losers: bool = False) -> Pending[Won[T]]:
    """The first of several waits to succeed: no error, and no Result that is not ok. If none does, the last failure is given.

    The runs that the others wait for go on, unless `cancel_losers`. `timeout`: "1h30m", or seconds.

    Raises:
        OutsideRunError: outside of a task.
        InvalidValue: nothing to wait for.
        WaitTimedOut: none succeeded in time.
    """
    return _race("wait.any(…)", "any", waits, _is_success, timeout, cancel_losers)


def _is_success(task: Any) -> bool:
    if task.cancelled() or task.exception() is not None:
        return False
    value = task.result()
    return not isinstance(value, Result) or value.ok


async def as_completed(*waits: Awaitable[T], timeout: str | float | None = None) -> AsyncIterator[tuple[int, T]]:
    """`async for index, value in wait.as_completed(…)`: each as it ends, in an order that is recorded. An error is raised in its turn.

    Raises:
        OutsideRunError: outside of a task.
        WaitTimedOut: `timeout` ("1h30m", or seconds, for all of them) was over before the last.
    """
    import asyncio

    call = "wait.as_completed(…)"
    here = durable.required(call)
    late = _late(here, call, timeout)
    tasks: dict[int, asyncio.Task[Any]] = {i: asyncio.ensure_future(w) for i, w in enumerate((*waits, *late))}  # type: ignore[arg-type]
    try:
        while len(tasks) > len(late):
            index = await _winner(here, here.slot("mark", "as_completed", None, "", call), tasks, lambda _: True)
            if index == len(waits):
                raise WaitTimedOut(f"{call}: {len(tasks) - 1} of {len(waits)} were not over within {timeout}")
            yield index, await tasks.pop(index)
    finally:
        for task in tasks.values():
            task.cancel()


def _late(here: Durable, call: str, timeout: str | float | None) -> list[Awaitable[Any]]:
    """The wait that ends a race when nothing else does."""
    ms = durable.timeout_ms(timeout, call)
    if ms is None:
        return []
    slot = here.slot("wait", "timeout", None, "", call)
    return [here.perform(slot, {"ms": ms})]


def _race(
    call: str, label: str, waits: tuple[Awaitable[Any], ...], accept: Accept, timeout: str | float | None, cancel_losers: bool
) -> Pending[Won[Any]]:
    here = durable.required(call)
    if not waits:
        raise InvalidValue(f"{call}: there is nothing to wait for")
    late = _late(here, call, timeout)
    slot = here.slot("mark", label, None, str(len(waits)), call)

    async def go() -> Won[Any]:
        import asyncio

        tasks: dict[int, asyncio.Task[Any]] = {i: asyncio.ensure_future(w) for i, w in enumerate((*waits, *late))}  # type: ignore[arg-type]
        try:
            # its end is always acceptable: a wait for time that is over does not fail
            index = await _winner(here, slot, tasks, lambda task: task is tasks.get(len(waits)) or accept(task))
            if index == len(waits):
                raise WaitTimedOut(f"{call}: nothing came within {timeout}")
            return Won(index, await tasks[index])
        finally:
            losers = [task for task in tasks.values() if not task.done()]
            for task in losers:
                if cancel_losers:
                    here.drop(task)
                task.cancel()
            await asyncio.gather(*losers, return_exceptions=True)

    return Pending(call, go, lambda: here.block(go))


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
