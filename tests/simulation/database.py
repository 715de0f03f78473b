"""The database as one simulated server reaches it: away at times, its answer to a commit lost, the server dead around one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any

from outlast.store.database import Connection, Database, DatabaseError
from outlast.store.sqlite import Sqlite
from tests.simulation.loop import Died, Node


@dataclass(slots=True)
class Trouble:
    """Chances per transaction."""

    dies_before: float = 0.0  # the server dies before the commit
    dies_after: float = 0.0  # … after it, before anybody hears
    unknown: float = 0.0  # committed, and the connection breaks before the answer
    lost: float = 0.0  # the connection breaks before the commit
    away: bool = False


class SimulatedDatabase:
    """Shared rows, and a connection of one server's own."""

    def __init__(self, inner: Database, node: Node, trouble: Trouble, chance: Random, committed: Callable[[], None]) -> None:
        self._inner = inner
        self._node = node
        self._trouble = trouble
        self._chance = chance
        self._committed = committed

    @property
    def is_postgres(self) -> bool:
        return self._inner.is_postgres

    @property
    def commits_inline(self) -> bool:
        return True  # no threads here, on PostgreSQL neither

    def clock_offset_ms(self, known: int) -> int:
        return 0

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        self._reach()
        trouble, roll = self._trouble, self._chance.random
        with self._inner.transaction() as tx:
            yield tx
            if trouble.lost and roll() < trouble.lost:
                raise _gone()
            if trouble.dies_before and roll() < trouble.dies_before:
                self._die()
        if trouble.dies_after and roll() < trouble.dies_after:
            self._die()
        self._committed()
        if trouble.unknown and roll() < trouble.unknown:
            raise _gone()

    def single(self) -> AbstractContextManager[Connection]:
        return self.transaction()

    @contextmanager
    def reading(self) -> Generator[Connection]:
        self._reach()
        with looking(self._inner) as tx:
            yield tx

    def snapshot(self) -> AbstractContextManager[Connection]:
        return self.reading()

    def listen(self, heard: Callable[[str], None], stopped: threading.Event) -> None:
        """Hints of other servers are lost, all of them: polling is the truth."""

    def close(self) -> None:
        return

    def _reach(self) -> None:
        if not self._node.alive:
            raise Died
        if self._trouble.away:
            raise _gone()

    def _die(self) -> Any:
        self._node.crash()
        raise Died


def looking(database: Database) -> AbstractContextManager[Connection]:
    """A read. Nothing else happens meanwhile, so in memory it needs no transaction, which would cost as much again."""
    return nullcontext(database._connection) if isinstance(database, Sqlite) else database.reading()  # pyright: ignore[reportPrivateUsage]


def _gone() -> DatabaseError:
    return DatabaseError("the connection to the database broke", retryable=True, unavailable=True)
