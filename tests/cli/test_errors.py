"""What goes wrong at a start is one clear line and exit status 1."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

OUTLAST = str(Path(sys.executable).parent / "outlast")


def fails(*arguments: str, cwd: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OUTLAST_", "TRIGGER_"))}
    ran = subprocess.run(
        [OUTLAST, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd, env={**clean, **environment}, check=False
    )
    assert ran.returncode == 1, ran.stderr
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert ran.stderr.startswith("error: ")
    return ran.stderr


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in fails("server", "--port", port, cwd=tmp_path)
        assert "--port" in fails("dev", "--port", port, cwd=tmp_path)


def test_a_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "data folder" in fails("server", "--port", "0", "--data", str(tmp_path / "file" / "data"), cwd=tmp_path)


def test_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    assert "cannot reach PostgreSQL" in fails("server", "--port", "0", "--database", "postgresql://nobody@127.0.0.1:1/none", cwd=tmp_path)


def test_a_database_of_no_known_form(tmp_path: Path) -> None:
    assert "mysql" in fails("server", "--port", "0", "--database", "mysql://x", cwd=tmp_path)


def test_a_newer_schema(tmp_path: Path) -> None:
    subprocess.run([OUTLAST, "db", "migrate", "--data", str(tmp_path)], check=True, capture_output=True)
    with sqlite3.connect(tmp_path / "outlast.db") as database:
        database.execute("INSERT INTO schema_migrations (number, name) VALUES (9999, 'from the future')")
    database.close()
    assert "newer" in fails("server", "--port", "0", "--data", str(tmp_path), cwd=tmp_path)


def test_no_server_to_talk_to(tmp_path: Path) -> None:
    assert "outlast dev" in fails("runs", "list", cwd=tmp_path)


def test_a_worker_with_a_wrong_key(tmp_path: Path) -> None:
    assert "OUTLAST_SECRET_KEY" in fails("worker", cwd=tmp_path, OUTLAST_API_URL="http://127.0.0.1:1")


@pytest.mark.parametrize(("name", "value"), [("OUTLAST_PORT", "many"), ("OUTLAST_CONCURRENCY", "0"), ("OUTLAST_UNKNOWN_TASKS", "maybe")])
def test_a_setting_that_cannot_be(tmp_path: Path, name: str, value: str) -> None:
    assert name in fails("settings", cwd=tmp_path, **{name: value})
