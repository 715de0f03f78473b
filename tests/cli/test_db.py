"""`outlast db backup` and `outlast db check` on a database that is in use."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from outlast.store.sqlite import Sqlite
from tests.databases import Address
from tests.engine.house import House, open_house

OUTLAST = str(Path(sys.executable).parent / "outlast")


def db(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OUTLAST, "db", *arguments], capture_output=True, text=True, timeout=60, check=False)


async def test_point_26_a_backup_of_a_database_in_use_is_whole(tmp_path: Path) -> None:
    """Runs are triggered and ended all the while; what was acknowledged before the backup began is in it."""
    url = f"sqlite:///{tmp_path / 'data' / 'outlast.db'}"
    async with open_house(Address(url)) as house:
        await house.work("t")
        before = await asyncio.gather(*(house.trigger() for _ in range(500)))
        copying = asyncio.create_task(asyncio.to_thread(db, "backup", str(tmp_path / "copy.db"), "--database", url))
        after = await _write_until(house, copying)
        ran = copying.result()
    assert (ran.returncode, ran.stderr) == (0, "")
    checked = db("check", "--database", f"sqlite:///{tmp_path / 'copy.db'}")
    assert (checked.returncode, checked.stdout) == (0, "every rule holds\n")
    copy = Sqlite(tmp_path / "copy.db")
    with copy.reading() as tx:
        kept = {row[0] for row in tx.all("SELECT id FROM runs")}
    copy.close()
    assert kept >= set(before)
    assert kept <= {*before, *after}
    assert list(tmp_path.glob("copy.db.part*")) == []


async def _write_until(house: House, copying: asyncio.Task[subprocess.CompletedProcess[str]]) -> list[str]:
    after: list[str] = []
    while not copying.done():
        after += await asyncio.gather(*(house.trigger() for _ in range(20)))
        for claimed in await house.claim(20):
            await house.end(claimed)
        await asyncio.sleep(0)
    return after


def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    Sqlite(tmp_path / "outlast.db").close()
    (tmp_path / "taken").write_text("mine")
    ran = db("backup", str(tmp_path / "taken"), "--data", str(tmp_path))
    assert ran.returncode == 1
    assert "exists" in ran.stderr
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_backup_of_postgresql_names_its_tools(tmp_path: Path) -> None:
    ran = db("backup", str(tmp_path / "copy"), "--database", "postgresql://nowhere/x")
    assert ran.returncode == 1
    assert "pg_dump" in ran.stderr


async def test_check_names_the_broken_rule_and_row(address: Address) -> None:
    async with open_house(address) as house:
        await house.work("t")
        run_id = await house.trigger()
        assert db("check", "--database", address.url, "--schema", address.schema).returncode == 0
        with house.engine.database.transaction() as tx:
            tx.execute("DELETE FROM entries")
        ran = db("check", "--database", address.url, "--schema", address.schema)
    assert ran.returncode == 1
    assert f"a queued run has an entry, or a timer that queues it: {run_id}" in ran.stdout
    assert "rows break a rule" in ran.stderr


@pytest.mark.parametrize("command", ["check", "backup"])
def test_a_command_for_nothing_says_so_and_makes_nothing(tmp_path: Path, command: str) -> None:
    target = [str(tmp_path / "copy")] if command == "backup" else []
    ran = db(command, *target, "--data", str(tmp_path / "none"))
    assert ran.returncode == 1
    assert "no SQLite file" in ran.stderr
    assert "--data, or its address with --database" in " ".join(ran.stderr.split())
    assert not list(tmp_path.iterdir())
