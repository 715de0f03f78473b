"""A copy of a SQLite database that is in use: whole, checked, and under its name only once it is both."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from outlast.store.database import DatabaseUnusable

PAGES = 1_000  # copied between two looks at the server's writes: 4 MB, some milliseconds


def backup(source: Path, target: Path) -> int:
    """Copy a database, which is there, while a server writes to it; the size of the copy in bytes.

    A commit meanwhile is in it whole or not at all.

    Raises:
        DatabaseUnusable: the target exists, the disk is full, or the copy is not sound.
    """
    if target.exists():
        raise DatabaseUnusable(f"{target} exists: a backup never overwrites, give it another name")
    part = target.with_name(f"{target.name}.part-{os.getpid()}")
    try:
        _copy(source, part)
        os.replace(part, target)
        _sync_folder(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise DatabaseUnusable(f"cannot back up {source} to {target}: {error}") from error
    finally:
        for left in (part, part.with_name(f"{part.name}-journal")):
            left.unlink(missing_ok=True)
    return target.stat().st_size


def _copy(source: Path, part: Path) -> None:
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    with closing(sqlite3.connect(source)) as reader, closing(sqlite3.connect(part)) as writer:
        reader.execute("PRAGMA query_only = ON")
        # one read transaction for all of it: the server's writes neither disturb the copy nor make it begin again
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reader.backup(writer, pages=PAGES)
        writer.execute("PRAGMA journal_mode = DELETE")
        [(found,)] = writer.execute("PRAGMA integrity_check").fetchall()[:1]
        if found != "ok":
            raise DatabaseUnusable(f"the copy of {source} is not sound: {found}")
    with open(part, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
