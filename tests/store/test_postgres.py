"""Which PostgreSQL is good enough."""

from __future__ import annotations

import secrets

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outlast.store.database import DatabaseUnusable
from outlast.store.postgres import Postgres


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
