"""Numbered, forward-only migrations. Safe to run twice and from two servers at once."""

from __future__ import annotations

from importlib.resources import files

from outlast.store.database import Connection, Database, DatabaseUnusable


def available() -> list[tuple[int, str, str]]:
    """(number, name, text) of every migration, in order."""
    folder = files("outlast.store") / "migrations"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return sorted((int(e.name.split("_", 1)[0]), e.name, e.read_text()) for e in found)


def migrate(database: Database) -> list[str]:
    """Bring the schema up to date and return the names of what was applied.

    Raises:
        DatabaseUnusable: the database was written by a newer Outlast.
    """
    migrations = available()
    with database.transaction() as connection:
        if connection.is_postgres:
            # any number that nobody else uses: two servers must not migrate at once
            connection.execute("SELECT pg_advisory_xact_lock(7079831)")
        connection.execute("CREATE TABLE IF NOT EXISTS schema_migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL)")
        applied = {row[0] for row in connection.all("SELECT number FROM schema_migrations")}
        newest = migrations[-1][0]
        if applied and max(applied) > newest:
            raise DatabaseUnusable(f"the database has schema {max(applied)}, this Outlast knows {newest}: install a newer Outlast")
        todo = [m for m in migrations if m[0] not in applied]
        for number, name, text in todo:
            _apply(connection, text)
            connection.execute("INSERT INTO schema_migrations (number, name) VALUES (:number, :name)", number=number, name=name)
    return [name for _, name, _ in todo]


def _apply(connection: Connection, text: str) -> None:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    for statement in "\n".join(lines).split(";"):
        if statement.strip():
            connection.execute(statement)
