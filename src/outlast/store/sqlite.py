"""SQLite: one file, one writer, commits in the caller's thread. WAL with synchronous=FULL: an acknowledged write survives power loss."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from outlast.store.database import Answer, DatabaseError, DatabaseUnusable, Row, fill

FRAGMENTS = {
    "identity": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "transaction_id": "BIGINT NOT NULL DEFAULT 0",
    "fillfactor_50": "",
    "fillfactor_70": "",
    "without_rowid": "WITHOUT ROWID",
    "for_update": "",
    "skip_locked": "",
    "least": "min",
    "greatest": "max",
}
_LIST = re.compile(r"\{in:(\w+)\}")
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # few shapes of a list statement, so that each stays prepared
_CACHED_STATEMENTS = 512


class Sqlite:
    """A database file. `path` ":memory:" is a private one for tests."""

    is_postgres = False
    commits_inline = True

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._write_lock = threading.RLock()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        try:
            self._writer = self._connect()
            self._writer.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            raise DatabaseUnusable(f"cannot open the SQLite file {self.path}: {error}") from error
        self._connection = SqliteConnection(self._writer)

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=_CACHED_STATEMENTS)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA busy_timeout = 5000")
        db.execute("PRAGMA cache_size = -65536")
        if read_only:
            db.execute("PRAGMA query_only = ON")
        return db

    def clock_offset_ms(self, known: int) -> int:
        return 0

    @contextmanager
    def transaction(self) -> Generator[SqliteConnection]:
        with self._write_lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._writer.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                if isinstance(error, (sqlite3.Error, UnicodeEncodeError, OverflowError)):
                    raise _translated(error) from error
                raise

    single = transaction

    @contextmanager
    def reading(self) -> Generator[SqliteConnection]:
        if self.path == ":memory:":
            with self.transaction() as connection:
                yield connection
            return
        reader: SqliteConnection | None = getattr(self._local, "reader", None)
        if reader is None:
            connection = self._connect(read_only=True)
            self._readers.append(connection)
            reader = self._local.reader = SqliteConnection(connection)
        try:
            reader.begin()
            yield reader
        except sqlite3.Error as error:
            raise _translated(error) from error
        finally:
            reader.end()

    def snapshot(self) -> AbstractContextManager[SqliteConnection]:
        return self.reading()  # a reading is a transaction here

    def close(self) -> None:
        for connection in (*self._readers, self._writer):
            connection.close()


class SqliteConnection:
    is_postgres = False
    generation = 0

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def begin(self) -> None:
        self._connection.execute("BEGIN")

    def end(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def execute(self, sql: str, /, **params: Any) -> int:
        text, params = _bound(sql, params)
        return self._connection.execute(text, params).rowcount

    def all(self, sql: str, /, **params: Any) -> list[Row]:
        text, params = _bound(sql, params)
        return self._connection.execute(text, params).fetchall()

    def ask(self, sql: str, /, **params: Any) -> Answer:
        rows = self.all(sql, **params)
        return lambda: rows

    def send(self, sql: str, /, **params: Any) -> None:
        self.execute(sql, **params)

    def many(self, sql: str, rows: Sequence[Row], /, *, expect: int | None = None, otherwise: type[Exception] = AssertionError) -> None:
        touched = self._connection.executemany(_filled(sql), rows).rowcount if rows else 0
        if expect is not None and touched != expect:
            raise otherwise(f"{touched} rows touched instead of {expect}: {sql}")

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
        self.many(_insert(table, tuple(columns), or_ignore), rows, expect=expect, otherwise=otherwise)

    def update(self, table: str, columns: Sequence[str], keys: Sequence[str], rows: Sequence[Row], /, *, expect: int | None = None) -> None:
        self.many(_update(table, tuple(columns), tuple(keys)), rows, expect=expect)

    def delete(self, table: str, keys: Sequence[str], rows: Sequence[Row], /, *, expect: int | None = None) -> None:
        self.many(_delete(table, tuple(keys)), rows, expect=expect)


@cache
def _insert(table: str, columns: tuple[str, ...], or_ignore: bool) -> str:
    tail = " ON CONFLICT DO NOTHING" if or_ignore else ""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}){tail}"


@cache
def _update(table: str, columns: tuple[str, ...], keys: tuple[str, ...]) -> str:
    return f"UPDATE {table} SET {', '.join(f'{c} = ?' for c in columns)} WHERE {' AND '.join(f'{k} = ?' for k in keys)}"


@cache
def _delete(table: str, keys: tuple[str, ...]) -> str:
    return f"DELETE FROM {table} WHERE {' AND '.join(f'{k} = ?' for k in keys)}"


@cache
def _filled(sql: str) -> str:
    return fill(sql, FRAGMENTS)


@cache
def _lists(sql: str) -> tuple[str, ...]:
    return tuple(_LIST.findall(sql))


@cache
def _with_lists(sql: str, sizes: tuple[int, ...]) -> str:
    text = sql
    for name, size in zip(_lists(sql), sizes, strict=True):
        text = text.replace("{in:" + name + "}", "IN (" + ",".join(f":{name}_{i}" for i in range(size)) + ")", 1)
    return fill(text, FRAGMENTS)


def _bound(sql: str, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    names = _lists(sql)
    if not names:
        return _filled(sql), params
    bound = dict(params)
    sizes: list[int] = []
    for name in names:
        values: Sequence[Any] = params[name] if not isinstance(params[name], (set, frozenset)) else list(params[name])
        bound.pop(name, None)
        size = next((s for s in _SIZES if s >= len(values)), len(values))
        sizes.append(size)
        last = values[-1] if values else None
        for i in range(size):
            bound[f"{name}_{i}"] = values[i] if i < len(values) else last
    return _with_lists(sql, tuple(sizes)), bound


def _translated(error: Exception) -> DatabaseError:
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    primary = code & 0xFF
    unavailable = primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    return DatabaseError(str(error), retryable=primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED), unavailable=unavailable)


class ServerLock:
    """One server on one SQLite file: an exclusive lock beside it, held as long as the process lives.

    Raises:
        DatabaseUnusable: another server holds it.
    """

    def __init__(self, folder: Path) -> None:
        import fcntl

        self._path = folder / "server.lock"
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DatabaseUnusable(f"cannot write in the data folder {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise DatabaseUnusable(
                f"another Outlast server uses the data folder {folder}: stop it, or give this one its own with --data"
            ) from error
        os.ftruncate(self._fd, 0)
        os.write(self._fd, str(os.getpid()).encode())

    def release(self) -> None:
        os.close(self._fd)
