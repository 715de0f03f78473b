"""One SQL text, two drivers: what a statement may say, and what a connection can do.

Single statements name their parameters (`:name`), lists of rows take `?`. What differs between the databases stands in
`{fragments}`; `{in:name}` is a list parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Row = tuple[Any, ...]
Answer = Callable[[], list[Row]]
Later = Callable[[], T]  # rows that were asked for; a call fetches them


class Connection(Protocol):
    """An open transaction. Rows are tuples in the order of the SELECT's columns."""

    @property
    def is_postgres(self) -> bool: ...
    @property
    def generation(self) -> int:
        """Of the database: more after a failover, when commits that were answered may be lost."""
        ...

    def execute(self, sql: str, /, **params: Any) -> int:
        """Rows touched."""
        ...

    def send(self, sql: str, /, **params: Any) -> None:
        """Like `execute`, when nobody needs the answer: it costs no round trip of its own."""
        ...

    def all(self, sql: str, /, **params: Any) -> list[Row]: ...
    def ask(self, sql: str, /, **params: Any) -> Answer:
        """Like `all`, with the rows fetched by a call later: several questions cost one round trip."""
        ...

    def many(self, sql: str, rows: Sequence[Row], /, *, expect: int | None = None, otherwise: type[Exception] = AssertionError) -> None:
        """The statement once per row. If it does not touch `expect` rows in all, `otherwise` is raised, at the latest before the commit."""
        ...

    def insert(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Row],
        /,
        *,
        or_ignore: bool = False,
        expect: int | None = None,
        otherwise: type[Exception] = AssertionError,
    ) -> None:
        """Many rows of one table, in their order. `or_ignore` leaves rows that are there already as they are."""
        ...

    def update(self, table: str, columns: Sequence[str], keys: Sequence[str], rows: Sequence[Row], /, *, expect: int | None = None) -> None:
        """Each row holds the values of `columns`, then those of `keys`; no key may stand twice."""
        ...

    def delete(self, table: str, keys: Sequence[str], rows: Sequence[Row], /, *, expect: int | None = None) -> None: ...


class Database(Protocol):
    """`commits_inline` says whether a transaction may run in the event loop's own thread."""

    @property
    def is_postgres(self) -> bool: ...
    @property
    def commits_inline(self) -> bool: ...
    def clock_offset_ms(self, known: int) -> int:
        """What to add to this process's clock to have the database's; 0 where this process's clock is the clock.

        `known`: what was added until now. It stays unless the answer differs by more than the question took.
        """
        ...

    def transaction(self) -> AbstractContextManager[Connection]: ...
    def single(self) -> AbstractContextManager[Connection]:
        """For one statement (on SQLite: or a few) that is a transaction by itself: `ask` in it, and read the answer after it."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """A consistent view for lists; never used for a decision."""
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Like `reading`, but all statements see one moment; for checks, which compare what several statements find."""
        ...

    def close(self) -> None: ...


class DatabaseError(Exception):
    """The database refused or broke; `retryable` when the same work may succeed at once."""

    def __init__(self, message: str, *, retryable: bool, unavailable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.unavailable = unavailable


class DatabaseUnusable(Exception):
    """The database cannot be opened or is not ours; the message is for people."""


class Again(Exception):
    """A unique key was taken by another transaction meanwhile: load again and decide again."""


def fill(sql: str, fragments: Mapping[str, str]) -> str:
    for name, text in fragments.items():
        sql = sql.replace("{" + name + "}", text)
    return sql


Listener = Callable[[str], None]
