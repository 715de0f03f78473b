"""The database that a seed begins with: SQLite in memory, or a PostgreSQL that is emptied for each seed."""

from __future__ import annotations

import secrets
from functools import cache

from outlast.server.runtime import add_key, seed
from outlast.store.database import Connection, Database
from outlast.store.migrate import migrate
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite

START_MS = 1_800_000_000_000
_servers: list[str] = []  # the address of a PostgreSQL, when seeds of this process use one


def use_postgres(url: str | None) -> None:
    """Seeds of this process have a schema of this server, or (None) SQLite."""
    _servers[:] = [] if url is None else [url]


def fresh() -> tuple[Database, str]:
    """An empty database and a key to it."""
    if _servers:
        database = _postgres(_servers[0])
        return database, _empty(database)
    image, key = _template()
    database = Sqlite(":memory:")
    database._writer.deserialize(image)  # pyright: ignore[reportPrivateUsage]
    return database, key


def leave(database: Database) -> None:
    """Nobody needs it any more; a schema is emptied by the next seed."""
    if isinstance(database, Sqlite):
        database.close()


@cache
def _template() -> tuple[bytes, str]:
    """The tables and a key, made once."""
    database = Sqlite(":memory:")
    migrate(database)
    with database.transaction() as tx:
        key = _first_rows(tx)
    image = database._writer.serialize()  # pyright: ignore[reportPrivateUsage]
    database.close()
    return image, key


@cache
def _postgres(url: str) -> Postgres:
    database = Postgres(url, schema=f"sim_{secrets.token_hex(6)}")
    migrate(database)
    return database


def _empty(database: Postgres) -> str:
    with database.transaction() as tx:
        tables = tx.all("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'schema_migrations'")
        tx.execute(f"TRUNCATE {', '.join(name for (name,) in tables)} RESTART IDENTITY")
        return _first_rows(tx)


def _first_rows(tx: Connection) -> str:
    seed(tx)
    return add_key(tx, "prod", "simulation", key_id="key_simulation", now=START_MS)
