"""Connections and sessions of databases that code holds over a wait: found in development, by looking through its frames."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, cast

from outlast import current

DRIVERS = frozenset({"aiomysql", "aiosqlite", "asyncpg", "psycopg", "psycopg2", "pymysql", "sqlalchemy", "sqlite3", "sqlmodel"})
_CLASSES = frozenset({"AsyncConnection", "AsyncSession", "Connection", "PoolConnectionProxy", "Session", "connection"})
MAX_FRAMES = 50

blocked_at: ContextVar[FrameType | None] = ContextVar("outlast_blocked_at", default=None)  # where the thread of a `def` task waits
MAX_SAID = 1_000
_said: set[tuple[str, str, str, int]] = set()  # each place of a run is named once, however often it is passed


def say_what_is_held(what: str) -> None:
    """A wait begins here: a warning for what will be gone when the run goes on elsewhere."""
    attempt = current.attempt.get()
    if attempt is None:
        return
    for frame, name, value in _held(blocked_at.get() or sys._getframe(1)):  # pyright: ignore[reportPrivateUsage]
        place = (attempt.ctx.run.id, name, frame.f_code.co_filename, frame.f_lineno)
        state = _state(value)
        if state is None or place in _said:
            continue
        if len(_said) >= MAX_SAID:
            _said.clear()
        _said.add(place)
        kind = f"{type(value).__module__.partition('.')[0]} {type(value).__name__}"
        text = (
            f"{what} begins at {place[2]}:{place[3]} while {name!r}, a {kind}, {state}: it is gone when the run goes on elsewhere."
            " Close it before the wait and open another after it, or use the hooks on_wait and on_resume"
        )
        attempt.emit("warn", "system", text, None)


def _held(frame: FrameType | None) -> Iterator[tuple[FrameType, str, Any]]:
    for _ in range(MAX_FRAMES):
        if frame is None:
            return
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("outlast", "asyncio"):
            for name, value in frame.f_locals.items():
                kind = cast("type[object]", type(value))
                if kind.__name__ in _CLASSES and kind.__module__.partition(".")[0] in DRIVERS:
                    yield frame, name, value
        frame = frame.f_back


def _state(held: Any) -> str | None:
    """What is bad about it; None when it is closed, or that cannot be told."""
    with contextlib.suppress(Exception):  # they are strangers, in whatever state
        closed = held.is_closed() if hasattr(held, "is_closed") else getattr(held, "closed", None)
        if not closed and _in_transaction(held):
            return "has an open transaction, and holds up its database all the while"
        return None if closed is None or closed else "is open"
    return None


def _in_transaction(held: Any) -> bool:
    for name in ("in_transaction", "is_in_transaction", "get_transaction_status"):
        said = getattr(held, name, None)
        if said is not None:
            return bool(said() if callable(said) else said)
    info = getattr(held, "info", None)  # of psycopg
    return bool(getattr(info, "transaction_status", 0))
