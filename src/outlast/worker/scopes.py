"""Scopes: where in the tree of asyncio tasks a durable operation stands. Their paths are the same in every execution of a run."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from collections.abc import Callable, Coroutine, Set
from typing import TYPE_CHECKING, Any, TypeVar

from outlast import current
from outlast.errors import OutsideRunError, RunCancelled, ScopeLostError
from outlast.worker.cancelling import RunTask
from outlast.worker.meter import Meter

if TYPE_CHECKING:
    from outlast.worker.journal import Journal


T = TypeVar("T")
NOBODY: frozenset[asyncio.Task[Any]] = frozenset()


class Scope:
    """One asyncio task (or thread) of a run. Its operations are numbered by kind and label, its tasks by function name."""

    __slots__ = ("dropped", "journal", "keys", "made", "operations", "owner", "parent", "path", "places", "spawned", "waits_for")

    def __init__(self, path: str, journal: Journal, parent: Scope | None = None) -> None:
        self.path = path
        self.journal = journal
        self.parent = parent
        self.owner: asyncio.Task[Any] | None = None  # None: a thread
        self.made = False  # a durable operation, here or below
        self.dropped = False  # a race was lost: what it made is of no use any more
        self.operations: dict[str, int] = {}
        self.places = 0  # operations without a key of their own
        self.spawned: dict[str, int] = {}
        self.keys: dict[str, None] = {}
        self.waits_for: Set[asyncio.Task[Any]] = NOBODY  # said by a race, whose own coroutine cannot be looked into

    def mark(self) -> None:
        """An operation is made here."""
        above: Scope | None = self
        while above is not None and not above.made:
            above.made = True
            above = above.parent

    def child(self, name: str) -> Scope:
        n = self.spawned.get(name, 0)
        self.spawned[name] = n + 1
        return Scope(f"{self.path}/{name}~{n}", self.journal, self)


def _forked() -> None:
    """A process that user code forks is no part of the run, though it has its context."""
    scope.set(None)
    current.attempt.set(None)


def is_dropped(scope: Scope | None) -> bool:
    while scope is not None:
        if scope.dropped:
            return True
        scope = scope.parent
    return False


scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("outlast_scope", default=None)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forked)


def place_of(journal: Journal, call: str, *, is_open: bool) -> Scope:
    """Where the code that asks stands.

    Raises:
        OutsideRunError, ScopeLostError: nowhere that could be found again in a replay.
    """
    here = scope.get()
    if here is None or here.journal is not journal or not is_open:
        raise OutsideRunError(f"{call} only works while the task's function runs: await it before the function returns")
    if here.owner is not None:
        try:
            current = asyncio.current_task()
        except RuntimeError:
            current = None
        if current is None:
            raise OutsideRunError(f"{call} was called in a thread that the task started: call it in the task itself")
        if current is not here.owner:
            raise ScopeLostError(f"{call} was called in an asyncio task that has no place of its own: {current.get_name()}")
    if journal.is_stopped:  # who has swallowed it is told again
        raise asyncio.CancelledError("the run must stop") if here.owner is not None else RunCancelled(f"{call}: the run must stop")
    return here


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Give every task made inside a run a scope of its own. A factory that is there already goes on making the tasks."""
    earlier: Callable[..., Any] | None = loop.get_task_factory()
    if getattr(earlier, "is_outlast", False):
        return

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        given: contextvars.Context | None = options.pop("context", None)
        parent = scope.get() if given is None else given.get(scope)
        if parent is None:
            return _make(earlier, loop, coroutine, given, options)
        mine = parent.child(_name(coroutine))
        context = contextvars.copy_context() if given is None else given.copy()
        context.run(scope.set, mine)
        attempt = context.get(current.attempt)
        if attempt is not None and isinstance(attempt.meter, Meter):
            coroutine = attempt.meter.around(coroutine)
        task = _make(earlier, loop, coroutine, context, options)
        mine.owner = task
        parent.journal.watch(task, mine)
        return task

    factory.is_outlast = True  # type: ignore[attr-defined]
    loop.set_task_factory(factory)


def _make(
    earlier: Callable[..., Any] | None, loop: asyncio.AbstractEventLoop, coroutine: Any, context: contextvars.Context | None, options: Any
) -> asyncio.Task[Any]:
    if context is not None:
        options["context"] = context
    if earlier is not None:
        return earlier(loop, coroutine, **options)
    return RunTask(coroutine, loop=loop, **options)


def _name(coroutine: Any) -> str:
    name = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
    return name.rpartition(".")[2]


def location() -> str:
    """File and line of the caller outside this package."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "outlast":
        frame = frame.f_back
    return sys.intern(f"{frame.f_code.co_filename}:{frame.f_lineno}")


async def counted(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What a thread waits for. The thread itself has no asyncio task that could be looked at: this one stands for it."""
    mine = scope.get()
    if mine is not None:
        mine.made = True
    return await start()
