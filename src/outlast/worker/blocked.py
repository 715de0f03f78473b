"""Whether a run waits for durable operations only. What cannot be told counts as working: a slot held too long, never a lost wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from outlast.worker.scopes import Scope, scope

if TYPE_CHECKING:
    from outlast.worker.delivery import Delivery

TURNS = 64  # of the loop, at most, until all that a result set in motion has come to rest
FOREIGN_TURNS = 16  # on a loop that does not show what is ready

# where asyncio itself waits for other tasks; whoever waits here is waiting for what those wait for
_INSIDE = frozenset(
    {
        ("asyncio/taskgroups.py", "__aexit__"),
        ("asyncio/tasks.py", "_wait"),
        ("asyncio/tasks.py", "wait_for"),
        ("asyncio/tasks.py", "_wait_for_one"),
        ("asyncio/queues.py", "get"),
        ("asyncio/queues.py", "put"),
        ("asyncio/queues.py", "join"),
        ("asyncio/locks.py", "acquire"),
        ("asyncio/locks.py", "wait"),
    }
)


def is_moving(loop: asyncio.AbstractEventLoop, journal: Delivery, turns: int) -> bool:
    """Something of the run is about to run; `turns` of the loop have been waited for already."""
    ready: Any = getattr(loop, "_ready", None)
    if ready is None:
        return turns < FOREIGN_TURNS
    if turns >= TURNS:
        return False
    # a copy, made in one step: threads that end append to it meanwhile
    for handle in tuple(ready):
        found = handle._context.get(scope) if handle._context is not None else None
        if found is not None and found.journal is journal:
            return True
    return False


def is_blocked(tasks: Mapping[asyncio.Task[Any], Scope], durable: Iterable[asyncio.Future[Any]]) -> bool:
    """`durable` are the futures of operations without a result. Tasks that made no operation and nobody waits for are left out."""
    pending = set(durable)
    alive = {task: scope for task, scope in tasks.items() if not task.done()}
    counted = {task for task, scope in alive.items() if scope.made}
    looked: set[asyncio.Task[Any]] = set()
    while counted - looked:
        task = (counted - looked).pop()
        looked.add(task)
        awaited = _awaited(task, pending, alive)
        if awaited is None:
            return False
        counted |= awaited
    return bool(counted)


def _awaited(
    task: asyncio.Task[Any], pending: set[asyncio.Future[Any]], alive: Mapping[asyncio.Task[Any], Scope]
) -> set[asyncio.Task[Any]] | None:
    """The tasks of the run that this one waits for; None when it works, or waits for the world outside."""
    future: Any = getattr(task, "_fut_waiter", None)
    if future is None:
        return None
    if future in pending:
        return set()
    if future in alive:
        return {future}
    children: Iterable[Any] | None = getattr(future, "_children", None)  # of `gather`
    if children is not None:
        waiting = {child for child in children if not child.done()}
        return {c for c in waiting if c in alive} if all(c in pending or c in alive for c in waiting) else None
    mine = alive[task]
    if mine.waits_for:
        return {other for other in mine.waits_for if other in alive}
    if _place(task) in _INSIDE:
        return {other for other, scope in alive.items() if scope.parent is mine}
    return None


def _place(task: asyncio.Task[Any]) -> tuple[str, str]:
    """File and function of the innermost coroutine."""
    coroutine: Any = task.get_coro()
    while True:
        inner = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None) or getattr(coroutine, "_coroutine", None)
        if inner is None or not (hasattr(inner, "cr_code") or hasattr(inner, "gi_code") or hasattr(inner, "_coroutine")):
            break
        coroutine = inner
    code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
    if code is None:
        return "", ""
    return "/".join(code.co_filename.replace("\\", "/").split("/")[-2:]), code.co_name
