"""Which PostgreSQL is good enough, and what it does with a server that is not heard of any more."""

from __future__ import annotations

import secrets

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outlast.store.database import DatabaseError, DatabaseUnusable
from outlast.store.postgres import Postgres
from tests.databases import Address

HELD = "SELECT id FROM held FOR UPDATE"


def test_row_83_a_database_that_forgets_commits_is_refused(postgres_url: str) -> None:
    name = f"forgets_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
            with pytest.raises(DatabaseUnusable, match="synchronous_commit=off"):
                Postgres(make_conninfo(postgres_url, dbname=name))
        finally:
            connection.execute(f"DROP DATABASE {name}".encode())


def test_a_server_that_stands_still_in_a_transaction_gives_its_locks_back(postgres: Address) -> None:
    """Its pipeline is not over, but PostgreSQL has answered all it heard, and may hang up."""
    still, other = (Postgres(postgres.url, schema=postgres.schema) for _ in range(2))

    def stand_still() -> None:
        with still.transaction() as tx:
            assert tx.all("SHOW idle_in_transaction_session_timeout") == [("5s",)]  # less than the time others wait for a lock
            tx.send("SET idle_in_transaction_session_timeout = '100ms'")
            assert tx.all(HELD) == [(1,)]
            with other.transaction() as late:
                assert late.all(HELD) == [(1,)]
            tx.all("SELECT 1")

    try:
        with other.transaction() as tx:
            tx.send("CREATE TABLE held AS SELECT 1 AS id")
        with pytest.raises(DatabaseError) as lost:
            stand_still()
        assert lost.value.unavailable
        with still.transaction() as tx:
            assert tx.all(HELD) == [(1,)]
    finally:
        still.close()
        other.close()


def test_postgresql_notices_that_the_machine_of_a_server_is_gone(postgres_url: str) -> None:
    database = Postgres(postgres_url)
    try:
        with database.reading() as tx:
            settings = dict(tx.all("SELECT name, reset_val FROM pg_settings WHERE name LIKE 'tcp%'"))
        assert settings == {
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "10000",
        }
    finally:
        database.close()


def test_point_20_a_database_that_does_not_tell_its_timeline_is_taken_as_it_is(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """As one whose replicas share its storage: nothing of it is ever behind."""
    name = f"silent_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        connection.execute(f"CREATE DATABASE {name} OWNER {name}".encode())
        try:
            with psycopg.connect(make_conninfo(postgres_url, dbname=name), autocommit=True) as there:
                there.execute(b"REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn() FROM PUBLIC")
            database = Postgres(make_conninfo(postgres_url, dbname=name, user=name))
            with database.transaction() as tx:
                assert tx.generation == 0
            assert "does not tell its timeline" in caplog.text
            database.close()
        finally:
            connection.execute(f"DROP DATABASE {name}".encode())
            connection.execute(f"DROP ROLE {name}".encode())
