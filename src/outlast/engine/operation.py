"""What an operation is: the rows it needs, and one plain function that decides over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.store.database import Connection, Later
from outlast.store.lanes import LaneKey

I = TypeVar("I")  # noqa: E741 - the item an operation takes
R = TypeVar("R")
Lane = tuple[LaneKey, int]  # with its environment


# What a flush of nothing but these items can do with hardly more than one statement; None: they must be decided. The write gives
# their outcomes in order, None for each that must be decided after all.
Alone = Callable[[Sequence[Any]], Callable[[Connection], Later[Sequence[Any]]] | None]


@dataclass(frozen=True, slots=True)
class Operation(Generic[I, R]):
    """`needs` adds rows to lock; `decide` sees what earlier items of the flush did, and may be run again."""

    name: str
    needs: Callable[[Any, Rows], None]
    decide: Callable[[View, I], R]
    lanes: Callable[[View, Any], Iterable[Lane]] | None = None  # where new entries go
    alone: Alone | None = None
    also: Callable[[View, Any, Rows], None] | None = None  # rows that only a look at the catalog tells


@dataclass(slots=True)
class Call:
    """An operation on its way to the committer. Its outcome is set after the commit."""

    operation: Operation[Any, Any]
    item: Any
    outcome: Any = None
    error: BaseException | None = None


def operation(
    *,
    needs: Callable[[Any, Rows], None],
    lanes: Callable[[View, Any], Iterable[Lane]] | None = None,
    alone: Alone | None = None,
    also: Callable[[View, Any, Rows], None] | None = None,
) -> Callable[[Callable[[View, I], R]], Operation[I, R]]:
    def wrap(decide: Callable[[View, I], R]) -> Operation[I, R]:
        return Operation(decide.__name__, needs, decide, lanes, alone, also)

    return wrap
