"""Scopes: where in the tree of asyncio tasks a durable operation stands. Their paths are the same in every execution of a run."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outlast.worker.journal import Journal


NOBODY: frozenset[asyncio.Task[Any]] = frozenset()


class Scope:
    """One asyncio task (or thread) of a run. Its operations are numbered by kind and label, its tasks by function name."""

    __slots__ = ("journal", "keys", "made", "operations", "owner", "parent", "path", "spawned", "waits_for")

    def __init__(self, path: str, journal: Journal, parent: Scope | None = None) -> None:
        self.path = path
        self.journal = journal
        self.parent = parent
        self.owner: asyncio.Task[Any] | None = None  # None: a thread
        self.made = False  # a durable operation, here or below
        self.operations: dict[str, int] = {}
        self.spawned: dict[str, int] = {}
        self.keys: dict[str, None] = {}
        self.waits_for: Set[asyncio.Task[Any]] = NOBODY  # said by a race, whose own coroutine cannot be looked into

    def child(self, name: str) -> Scope:
        n = self.spawned.get(name, 0)
        self.spawned[name] = n + 1
        return Scope(f"{self.path}/{name}~{n}", self.journal, self)


scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("outlast_scope", default=None)


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
    return asyncio.Task(coroutine, loop=loop, **options)


def _name(coroutine: Any) -> str:
    name = getattr(coroutine, "__qualname__", None) or type(coroutine).__name__
    return name.rpartition(".")[2]


def location() -> str:
    """File and line of the caller outside this package."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "outlast":
        frame = frame.f_back
    return sys.intern(f"{frame.f_code.co_filename}:{frame.f_lineno}")
