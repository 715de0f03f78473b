"""Points 22 to 24: databases that are full, read-only or cut off, and files as a power loss leaves them."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from outlast.client import requests
from outlast.client.address import Address
from outlast.client.connection import Connection
from outlast.client.requests import RunHandle
from outlast.errors import ApiError
from outlast.store import check
from outlast.store.database import DatabaseError
from outlast.store.migrate import migrate
from outlast.store.sqlite import Sqlite
from outlast.worker.connection import ConnectionClosed, WebSocketConnection
from tests.databases import Address as DatabaseAddress
from tests.end_to_end.processes import Cluster
from tests.engine.house import open_house

SECTOR = 512


def test_point_23_a_wal_cut_anywhere_opens_with_a_prefix_of_what_was_committed(tmp_path: Path) -> None:
    """At every sector of its tail, as power loss cuts it: no commit is there in part, and none without those before it."""
    database = Sqlite(tmp_path / "whole.db")
    migrate(database)
    database._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # pyright: ignore[reportPrivateUsage]
    for i in range(6):
        with database.transaction() as tx:
            tx.execute("CREATE TABLE IF NOT EXISTS pairs (a BIGINT, b BIGINT)")
            for half in range(2):
                tx.execute("INSERT INTO pairs VALUES (:a, :b)", a=i, b=half)
    wal = (tmp_path / "whole.db-wal").read_bytes()
    shutil.copy(tmp_path / "whole.db", tmp_path / "base.db")
    database.close()
    seen: list[int] = []
    for size in (*range(0, len(wal), SECTOR), len(wal)):
        shutil.copy(tmp_path / "base.db", tmp_path / "cut.db")
        (tmp_path / "cut.db-wal").write_bytes(wal[:size])
        (tmp_path / "cut.db-shm").unlink(missing_ok=True)
        seen.append(_commits(tmp_path / "cut.db"))
    assert seen == sorted(seen)
    assert set(seen) == set(range(7))


def _commits(path: Path) -> int:
    opened = Sqlite(path)
    with opened.reading() as tx:
        assert tx.all("PRAGMA integrity_check") == [("ok",)]
        there = tx.all("SELECT 1 FROM sqlite_master WHERE name = 'pairs'")
        rows = tx.all("SELECT a, b FROM pairs ORDER BY a, b") if there else []
    opened.close()
    assert rows == [(a, b) for a in range(len(rows) // 2) for b in range(2)]
    return len(rows) // 2


async def test_point_24_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with open_house(DatabaseAddress(f"sqlite:///{tmp_path / 'outlast.db'}")) as house:
        await house.work("t")
        database = house.engine.database
        assert isinstance(database, Sqlite)
        writer = database._writer  # pyright: ignore[reportPrivateUsage]
        [pages] = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        made: list[str] = []
        refused = None
        while refused is None and len(made) < 1_000:
            try:
                made.append(await house.trigger(payload='"' + "x" * 2_000 + '"'))
            except DatabaseError as error:
                refused = error
        assert refused is not None and refused.unavailable
        writer.execute("PRAGMA max_page_count = 1000000")
        made.append(await house.trigger())
        assert len(await house.engine.read(lambda tx: tx.all("SELECT id FROM runs"))) == len(made)
        await house.assert_sound()


def test_point_24_a_disk_that_takes_nothing_costs_answers_and_no_data(tmp_path: Path) -> None:
    """A real server, whose writes the kernel refuses for a while."""
    cluster = Cluster(tmp_path, DatabaseAddress(f"sqlite:///{tmp_path / 'data' / 'outlast.db'}"))
    try:
        server, port = cluster.server()
        client = Connection(Address(f"http://127.0.0.1:{port}", cluster.key), sleep_sync=lambda _: None)
        made = [client.send_sync(_trigger(0)).id]
        hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, hard))
        with pytest.raises(ApiError) as refused:
            client.send_sync(_trigger(1))
        assert refused.value.status == 503
        assert server.poll() is None
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
        made.append(client.send_sync(_trigger(2)).id)
        client.close_sync()
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    finally:
        cluster.stop()
    database = Sqlite(tmp_path / "data" / "outlast.db")
    with database.reading() as tx:
        assert {row[0] for row in tx.all("SELECT id FROM runs")} == set(made)
        assert check.whole(tx) == []
    database.close()


def _trigger(n: int) -> requests.Request[RunHandle[Any]]:
    return requests.trigger("nobody", {"payload": str(n), "options": {"payloadType": "application/json"}})


async def test_point_22_a_read_only_postgresql_is_answered_and_recovered_from(postgres: DatabaseAddress) -> None:
    """As after a failover: every connection is ended, and the new ones may not write."""
    async with open_house(postgres) as house:
        await house.work("t")
        with psycopg.connect(postgres.url, autocommit=True) as other:
            await house.trigger()
            other.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
            try:
                _end_connections(other)
                with pytest.raises(DatabaseError) as refused:
                    await house.trigger()
            finally:
                other.execute("ALTER ROLE CURRENT_USER RESET default_transaction_read_only")
            assert refused.value.unavailable
            _end_connections(other)
        await house.trigger()
        assert len(await house.claim(5)) == 2
        await house.assert_sound()


async def test_point_22_a_postgresql_without_a_connection_to_spare(postgres: DatabaseAddress) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as other, _limited(other, postgres) as (role, address):
        async with open_house(address) as house:
            await house.work("t")
            await house.trigger()
            other.execute(f'ALTER ROLE "{role}" CONNECTION LIMIT 0'.encode())
            _end_connections(other)
            with pytest.raises(DatabaseError) as refused:
                await house.trigger()
            assert refused.value.unavailable
            house.engine.publish(1, "home")
            house.engine._heard("other push:session:run:1:1:1")  # pyright: ignore[reportPrivateUsage]
            hints = [t for t in asyncio.all_tasks() if getattr(t.get_coro(), "__name__", "") in ("_hint", "_push")]
            await asyncio.wait(hints)
            assert [hint.exception() for hint in hints] == [None, None]  # nobody would retrieve it
            other.execute(f'ALTER ROLE "{role}" CONNECTION LIMIT 6'.encode())
            await house.trigger()
            assert len(await house.claim(5)) == 2
            await house.assert_sound()


async def test_point_22_a_worker_that_connects_meanwhile_may_come_again(postgres: DatabaseAddress, tmp_path: Path) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as other, _limited(other, postgres) as (role, address):
        cluster = Cluster(tmp_path, address)
        try:
            _, port = cluster.server()
            other.execute(f'ALTER ROLE "{role}" CONNECTION LIMIT 0'.encode())
            _end_connections(other)
            with pytest.raises(ConnectionClosed, match="the server answered 503") as refused:
                await WebSocketConnection.open(f"http://127.0.0.1:{port}", cluster.key)
            assert not refused.value.final
            other.execute(f'ALTER ROLE "{role}" CONNECTION LIMIT 20'.encode())
            await (await WebSocketConnection.open(f"http://127.0.0.1:{port}", cluster.key)).close()
        finally:
            cluster.stop()
    assert "Traceback" not in (tmp_path / "server.log").read_text()


@contextmanager
def _limited(owner: psycopg.Connection, postgres: DatabaseAddress) -> Iterator[tuple[str, DatabaseAddress]]:
    """A role whose connections can be taken away, and the database as it sees it."""
    role = f"role_{postgres.schema}"
    owner.execute(f'CREATE ROLE "{role}" LOGIN CONNECTION LIMIT 20'.encode())
    owner.execute(f'GRANT CREATE ON DATABASE "{owner.info.dbname}" TO "{role}"'.encode())
    try:
        yield role, DatabaseAddress(_as(postgres.url, role), postgres.schema)
    finally:
        owner.execute(f'DROP OWNED BY "{role}" CASCADE'.encode())
        owner.execute(f'DROP ROLE "{role}"'.encode())


def _as(url: str, role: str) -> str:
    head, _, tail = url.partition("://")
    return f"{head}://{role}@{tail.partition('@')[2]}"


def _end_connections(connection: psycopg.Connection) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
