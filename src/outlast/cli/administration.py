"""What works on a database directly: keys, migrations, backups and checks. It may be in use by a server meanwhile."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outlast.server.roles import MEANINGS
from outlast.server.rotation import rotate
from outlast.server.runtime import ENVIRONMENTS, add_key, environment_id, seed
from outlast.settings import Settings
from outlast.store import catalog, check, keys, signins
from outlast.store.backup import backup
from outlast.store.database import Database, DatabaseUnusable
from outlast.store.migrate import migrate
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite


def _open(settings: Settings) -> Database:
    url: str | None = settings.database
    if url is not None and url.startswith(("postgresql://", "postgres://")):
        return Postgres(url, schema=settings.schema)
    path = _sqlite_path(settings)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnusable(f"cannot make the data folder {path.parent}: {error.strerror}") from error
    return Sqlite(path)  # SQLite lets a second process write between the server's transactions


def _sqlite_path(settings: Settings) -> Path:
    url: str | None = settings.database
    return Path(url.removeprefix("sqlite:///")) if url else Path(settings.data) / "outlast.db"


def _sqlite_file(settings: Settings) -> Path:
    """The file of a database that is there already: opening one makes it."""
    path = _sqlite_path(settings)
    if not path.is_file():
        raise DatabaseUnusable(f"there is no SQLite file {path}: name its folder with --data, or its address with --database")
    return path


def migrate_database(settings: Settings) -> list[str]:
    database = _open(settings)
    try:
        return migrate(database)
    finally:
        database.close()


def backup_database(settings: Settings, target: Path) -> tuple[Path, int]:
    """Copy the SQLite file while it is in use; where it was, and the size of the copy.

    Raises:
        DatabaseUnusable: it cannot be copied, or lies in PostgreSQL.
    """
    url: str | None = settings.database
    if url is not None and not url.startswith("sqlite:///"):
        raise DatabaseUnusable("PostgreSQL has tools of its own for backups: pg_dump, or a base backup with WAL archiving")
    source = _sqlite_file(settings)
    return source, backup(source, target)


def rotate_key(settings: Settings) -> int:
    """Seal variables and secrets of alerts with a new key; how many values that were."""
    database = _open(settings)
    try:
        migrate(database)
        return rotate(database, Path(settings.data), settings.secrets_key)
    finally:
        database.close()


def check_database(settings: Settings) -> list[str]:
    """What is wrong in a database; nothing, if all is well. It may be in use: one snapshot is looked at.

    Raises:
        DatabaseUnusable: there is no such file, or no answer.
    """
    if not (settings.database or "").startswith("postgres"):
        _sqlite_file(settings)
    database = _open(settings)
    try:
        with database.snapshot() as tx:
            return [str(violation) for violation in check.whole(tx)]
    finally:
        database.close()


def create_key(settings: Settings, env: str, name: str, role: str = "operator") -> str:
    if role not in MEANINGS:
        raise DatabaseUnusable(f"there is no role {role!r}: use {', '.join(MEANINGS)}")
    database = _open(settings)
    try:
        migrate(database)
        now = time.time_ns() // 1_000_000
        with database.transaction() as tx:
            seed(tx)
            return add_key(tx, env, name, key_id=f"key_{secrets.token_hex(10)}", now=now, role=role)
    finally:
        database.close()


def create_link(settings: Settings) -> str:
    """The address of the dashboard with a secret that signs in once."""
    secret, now = secrets.token_urlsafe(32), time.time_ns() // 1_000_000
    database = _open(settings)
    try:
        migrate(database)
        with database.transaction() as tx:
            signins.add_link(tx, secret, now + signins.LINK_MS)
    finally:
        database.close()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}/login/{secret}"


def list_keys(settings: Settings) -> list[dict[str, Any]]:
    slugs = {id_: slug for id_, slug, _ in ENVIRONMENTS}
    database = _open(settings)
    try:
        migrate(database)
        with database.reading() as tx:
            found = keys.listed(tx)
    finally:
        database.close()
    return [
        {
            "id": key.id,
            "env": slugs[key.env_id],
            "name": key.name,
            "role": key.role,
            "ends_with": key.last_four,
            "created_at": _time(key.created_at),
            "revoked_at": _time(key.revoked_at),
        }
        for key in found
    ]


def revoke_key(settings: Settings, key_id: str) -> bool:
    database = _open(settings)
    try:
        with database.transaction() as tx:
            return keys.revoke(tx, key_id, time.time_ns() // 1_000_000)
    finally:
        database.close()


def revoke_tokens(settings: Settings, slug: str) -> None:
    """Refuse every public token that was made for an environment until now.

    Raises:
        DatabaseUnusable: there is no such environment.
    """
    database = _open(settings)
    try:
        migrate(database)
        with database.transaction() as tx:
            seed(tx)
            catalog.refuse_tokens_before(tx, environment_id(slug), int(time.time()) + 1)  # tokens carry whole seconds
    finally:
        database.close()


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1_000, UTC)
