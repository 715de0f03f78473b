"""PostgreSQL 14 to 18 over sync psycopg 3: one connection for the committer, a small pool for reads."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from outlast.store.database import Answer, DatabaseError, DatabaseUnusable, Listener, Row
from outlast.store.dialect import named
from outlast.store.pipelined import PipelinedConnection

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger("outlast.store")

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
CHANNEL = "outlast_wake"
CLOCK_QUESTIONS = 3
_TIMELINE = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
_TIMEOUTS = {"lock_timeout": "10s", "idle_in_transaction_session_timeout": "60s"}
_COMMITTER = {
    # it only looks rows up by key: a plan made while the tables were small must not read them whole when they are large
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    # a server that stands still in a transaction keeps the others from what it locked: for less than they wait for a lock
    "idle_in_transaction_session_timeout": "5s",
}
# a network that swallows everything is noticed in about ten seconds, instead of a quarter of an hour; by PostgreSQL too, which keeps
# the locks of a server whose machine has lost its power
_NETWORK_THERE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3", "tcp_user_timeout": "10000"}
_NETWORK: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class Postgres:
    """A database by its `postgresql://` address. Tables live in `schema`.

    Raises:
        DatabaseUnusable: unreachable, or `synchronous_commit` or `fsync` is off (it would lose acknowledged work).
    """

    is_postgres = True
    commits_inline = False

    def __init__(self, url: str, *, schema: str = "outlast") -> None:
        try:
            import psycopg
        except ImportError as error:
            raise DatabaseUnusable("PostgreSQL needs the extra: pip install 'outlast[postgres]'") from error
        if not _SCHEMA.fullmatch(schema):
            raise DatabaseUnusable(f"{schema!r} is not a schema name: use lower-case letters, digits and _")
        self._psycopg = psycopg
        self._url = url
        self.schema = schema
        self._lock = threading.Lock()
        self._writer: PipelinedConnection | None = None
        self._idle: list[psycopg.Connection[Row]] = []
        self._closed = False
        # behind a pooler that gives out a connection for one transaction, nothing may be kept from one to the next
        self.is_pooled = False
        try:
            self.is_pooled = self._finds_pooler()
            with self.connect() as connection:
                connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'.encode())
                rows = connection.execute("SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit')").fetchall()
                self._timeline = self._asks_timeline(connection)
        except psycopg.Error as error:
            raise DatabaseUnusable(f"cannot reach PostgreSQL: {' '.join(str(error).split())}") from error
        for name, setting in rows:
            if setting == "off":
                raise DatabaseUnusable(f"PostgreSQL runs with {name}=off, which loses acknowledged work: switch it on")

    def connect(self, settings: Mapping[str, str] = {}) -> psycopg.Connection[Row]:
        if self.is_pooled:  # its settings come with each transaction
            return self._psycopg.connect(self._url, autocommit=True, prepare_threshold=None, **_NETWORK)
        options = " ".join(f"-c {name}={value}" for name, value in {**_NETWORK_THERE, **self._settings(settings)}.items())
        return self._psycopg.connect(self._url, autocommit=True, options=options, **_NETWORK)

    def _finds_pooler(self) -> bool:
        """PgBouncer refuses the settings of a session, or takes them and drops them."""
        try:
            with self.connect() as connection:
                row = connection.execute("SHOW search_path").fetchone()
        except self._psycopg.OperationalError as error:
            if "unsupported startup parameter" in str(error):
                return True
            raise
        return row is None or row[0].strip('"') != self.schema

    def _asks_timeline(self, connection: psycopg.Connection[Row]) -> str:
        """The question for the timeline, which each promotion of a replica raises by one."""
        try:
            connection.execute(_TIMELINE.encode())
        except self._psycopg.Error as error:
            if connection.closed:
                raise
            # most likely its log is not a PostgreSQL's, and what shares its storage is never behind
            log.warning(
                "the database does not tell its timeline: after a failover to a replica that was behind, restart servers and workers",
                extra={"error": " ".join(str(error).split())},
            )
            return "SELECT 1"
        return _TIMELINE

    def _settings(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        return {"search_path": self.schema, **_TIMEOUTS, **more}

    def _set(self, connection: PostgresConnection | PipelinedConnection, more: Mapping[str, str] = {}) -> None:
        """For this transaction."""
        if self.is_pooled:
            settings = self._settings(more)
            calls = ", ".join(f"set_config(:{name}_, :{name}, true)" for name in settings)
            connection.send(f"SELECT {calls}", **settings, **{f"{name}_": name for name in settings})

    def clock_offset_ms(self, known: int) -> int:
        with self.reading() as connection:
            took, found = min(_ask_time(connection) for _ in range(CLOCK_QUESTIONS))
        return known if abs(found - known) <= took * 500 else found  # which of the two is right cannot be told

    @contextmanager
    def transaction(self) -> Generator[PipelinedConnection]:
        with self._writing() as connection:
            connection.begin()
            self._configure(connection)
            yield connection
            connection.commit()

    @contextmanager
    def single(self) -> Generator[PipelinedConnection]:
        with self._writing() as connection:
            self._configure(connection)
            yield connection
            connection.sync()

    def _configure(self, connection: PipelinedConnection) -> None:
        if self.is_pooled:  # to whom it is connected now is the pooler's affair
            self._set(connection, _COMMITTER)
            connection.timeline = connection.ask(self._timeline)

    @contextmanager
    def _writing(self) -> Generator[PipelinedConnection]:
        with self._lock:
            connection = None
            try:
                yield (connection := self._connected())
            except self._psycopg.errors.DivisionByZero as error:
                assert connection is not None
                self._roll_back()
                raise connection.unexpected() from error
            except self._psycopg.Error as error:
                self._drop_writer()  # in which state it is, only a new connection knows
                raise self._translated(error) from error
            except BaseException:
                self._roll_back()
                raise

    def _connected(self) -> PipelinedConnection:
        if self._writer is None or self._writer.closed:
            self._writer = PipelinedConnection(self.connect(_COMMITTER), prepares=not self.is_pooled)
            self._writer.timeline = self._writer.ask(self._timeline)
            self._writer.sync()
        return self._writer

    def _roll_back(self) -> None:
        try:
            if self._writer is not None:
                self._writer.roll_back()
        except self._psycopg.Error:
            self._drop_writer()

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(self._psycopg.Error):
                writer.close()

    @contextmanager
    def reading(self) -> Generator[PostgresConnection]:
        try:
            try:
                connection = self._idle.pop()  # atomic under the interpreter's lock
            except IndexError:
                connection = self.connect()
            try:
                found = PostgresConnection(connection)
                if self.is_pooled:
                    with self._begun(found):
                        yield found
                else:  # reads decide nothing, so each statement may have a view of its own: a transaction would cost two round trips
                    yield found
            finally:
                if connection.closed:  # so are the others, in all likelihood
                    idle, self._idle = self._idle, []
                    for other in idle:
                        other.close()
                elif self._closed or len(self._idle) >= 8:
                    connection.close()
                else:
                    self._idle.append(connection)
        except self._psycopg.Error as error:
            raise self._translated(error) from error

    @contextmanager
    def snapshot(self) -> Generator[PostgresConnection]:
        with self.reading() as connection:
            if self.is_pooled:
                yield connection
            else:
                with self._begun(connection):
                    yield connection

    @contextmanager
    def _begun(self, connection: PostgresConnection) -> Generator[None]:
        connection.send("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            self._set(connection)
            yield
        finally:
            with suppress(self._psycopg.Error):
                connection.send("ROLLBACK")

    def listen(self, heard: Listener, stopped: threading.Event) -> None:
        """Pass on other servers' wakes until told to stop. A hint only: whoever listens also polls."""
        while not stopped.is_set() and not self.is_pooled:
            try:
                with self.connect() as connection:
                    connection.execute(f"LISTEN {CHANNEL}".encode())
                    while not stopped.is_set():
                        for note in connection.notifies(timeout=1.0, stop_after=1):
                            heard(note.payload)
            except self._psycopg.Error:
                stopped.wait(1.0)

    def close(self) -> None:
        self._closed = True
        self._drop_writer()
        for connection in self._idle:
            connection.close()

    def _translated(self, error: Exception) -> DatabaseError:
        errors = self._psycopg.errors
        retryable = isinstance(error, (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable))
        hung_up = (self._psycopg.OperationalError, self._psycopg.InterfaceError, errors.IdleInTransactionSessionTimeout)
        gone = (*hung_up, errors.ReadOnlySqlTransaction)
        lost = isinstance(error, gone) and not retryable
        return DatabaseError(" ".join(str(error).split()), retryable=retryable or lost, unavailable=lost)


def _ask_time(connection: PostgresConnection) -> tuple[float, int]:
    """How long the answer took, in seconds, and by how many milliseconds the database's clock is ahead of ours."""
    before = time.time()
    [(theirs,)] = connection.all("SELECT extract(epoch FROM clock_timestamp())::double precision")
    after = time.time()
    return after - before, round((theirs - (before + after) / 2) * 1_000)


class PostgresConnection:
    """For reads: each statement sees what is committed when it begins."""

    is_postgres = True

    @property
    def generation(self) -> int:
        raise NotImplementedError("this connection only reads")

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def execute(self, sql: str, /, **params: Any) -> int:
        return self._connection.execute(named(sql), params or None).rowcount

    def send(self, sql: str, /, **params: Any) -> None:
        self._connection.execute(named(sql), params or None)

    def all(self, sql: str, /, **params: Any) -> list[Row]:
        return self._connection.execute(named(sql), params or None).fetchall()

    def ask(self, sql: str, /, **params: Any) -> Answer:
        return self._connection.execute(named(sql), params or None).fetchall

    def many(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("this connection only reads")

    insert = update = delete = many
