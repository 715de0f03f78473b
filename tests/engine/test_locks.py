"""What many servers do to one another: no deadlock, no limit passed, no run claimed twice. And no statement reads a table whole."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg

from outlast.engine import attempts, control, sessions, triggers
from outlast.engine.claim import ADVISORY_CLASS
from outlast.engine.clock import Chance
from outlast.engine.engine import Engine
from outlast.model.manifest import Manifest, QueueDefinition, TaskDefinition
from outlast.model.requests import BatchCreated, CancelChildren, CreateBatch, OpenSession
from outlast.store.sqlite import Sqlite
from tests.databases import Address
from tests.engine.house import House, open_house, open_store

KEYS, EACH, SERVERS = 300, 300, 3
TASK = TaskDefinition(id="t", queue=QueueDefinition(name="q", concurrency_limit=2))


@asynccontextmanager
async def another(address: Address, first: House, n: int) -> AsyncIterator[House]:
    engine = Engine(open_store(address), clock=first.clock, chance=Chance(n), poll_ms=3_600_000)
    await engine.start()
    house = House(engine, first.clock, 1)
    try:
        yield house
    finally:
        await engine.close()


async def at_work(house: House, n: int) -> None:
    manifest = Manifest(python="3.11", content_hash="1", tasks=[TASK], queues=[])
    item = OpenSession(env_id=1, server_id=f"s{n}", worker=f"w{n}", boot_id=f"b{n}", manifest=manifest, promote=True)
    opened = await house.engine.call(sessions.open_session, item)
    house.session, house.version = opened.session, opened.version


async def test_three_servers_enqueue_claim_cancel_and_finish_without_a_deadlock(postgres: Address) -> None:
    ended: Counter[str] = Counter()
    too_many: list[Any] = []

    def over(tx: Any) -> list[Any]:
        return tx.all("SELECT lane_id, count(*) FROM slots GROUP BY lane_id HAVING count(*) > 2")

    async def enqueue(house: House, n: int) -> list[str]:
        made = [house.trigger(concurrency_key=f"k{(i * 7 + n * 11) % KEYS}", priority_ms=i % 5 * 1_000) for i in range(EACH)]
        ids = await asyncio.gather(*made)
        await asyncio.gather(*(house.cancel(run_id) for run_id in ids[::10]))
        return ids

    async def drain(house: House) -> None:
        idle = 0
        while idle < 20:
            got = await house.claim(20)
            idle = 0 if got else idle + 1
            too_many.extend(await house.engine.read(over))
            for c, answer in zip(got, await asyncio.gather(*(house.end(c) for c in got)), strict=True):
                ended[c.run.id] += getattr(answer, "repeat", None) is False

    async with open_house(postgres) as first, AsyncExitStack() as stack:
        houses = [first, *[await stack.enter_async_context(another(postgres, first, n)) for n in range(1, SERVERS)]]
        for n, house in enumerate(houses):
            await at_work(house, n)
        before = deadlocks(postgres)
        made, *_ = await asyncio.gather(
            asyncio.gather(*(enqueue(house, n) for n, house in enumerate(houses))), *(drain(house) for house in houses)
        )
        await asyncio.gather(*(drain(house) for house in houses))
        assert too_many == []
        assert max(ended.values()) == 1
        state = await first.engine.read(lambda tx: tx.all("SELECT status, count(*) FROM runs GROUP BY status"))
        counted = dict(state)
        assert set(counted) <= {"COMPLETED", "CANCELED"}
        assert sum(counted.values()) == sum(map(len, made)) == EACH * SERVERS
        assert counted["COMPLETED"] == sum(ended.values())
        assert await first.engine.read(lambda tx: tx.all("SELECT sum(used), sum(queued) FROM lanes")) == [(0, 0)]
        await first.assert_sound()
        assert deadlocks(postgres) == before


def deadlocks(address: Address) -> int:
    with psycopg.connect(address.url, autocommit=True) as connection:
        row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return row[0]


LARGE = {
    "runs",
    "run_data",
    "run_tags",
    "entries",
    "slots",
    "lanes",
    "events",
    "requests",
    "idempotency",
    "batches",
    "batch_items",
    "timers",
}


async def lives(house: House) -> None:
    """One of each: what makes, claims, ends, retries, delays and cancels runs."""
    await house.work("t", "u", hash="2")
    batch = await house.engine.call(triggers.create_batch, CreateBatch(env_id=1, count=2))
    assert isinstance(batch, BatchCreated)
    for i in range(2):
        await house.trigger(batch_id=batch.batch_id, batch_index=i)
    await house.trigger(idempotency_hash="k", request_id="r", concurrency_key="c")
    await house.trigger(idempotency_hash="k", request_id="r")
    waiting = await house.trigger(delay_until=house.clock.now() + 60_000)
    parent = await house.trigger()
    await house.trigger(parent_id=parent)
    claimed = await house.claim(4)
    await house.end(claimed[0])
    await house.end(claimed[1], "retry", retry_delay_ms=1)
    await house.give_back(claimed[2])
    await house.lose(claimed[3])
    await house.cancel(parent)
    await house.cancel(waiting)
    await house.engine.call(attempts.append_logs, _nothing())


def _nothing() -> Any:
    from outlast.model.requests import AppendLogs

    return AppendLogs(lines=[])


async def somebody_waits(connection: psycopg.Connection[Any], kind: str) -> None:
    """PostgreSQL tells nobody: it has to be asked."""
    while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = %s", (kind,)).fetchone():
        await asyncio.sleep(0.005)


async def test_a_claim_that_waited_for_another_server_is_dated_after_what_that_wrote(postgres: Address) -> None:
    """A run was shown to have started before its delay was over."""
    async with open_house(postgres) as first, another(postgres, first, 1) as second:
        await second.work(TASK)
        due = first.clock.now() + 1_000
        run_id = await first.trigger(delay_until=due)
        with psycopg.connect(postgres.url) as connection:  # another claim
            connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (ADVISORY_CLASS, 1))
            claiming = asyncio.create_task(second.claim())
            await somebody_waits(connection, "advisory")
            first.clock.advance(seconds=1)
            await first.upkeep.timers()
        [claimed] = await claiming
        assert (claimed.run.id, claimed.run.started_at) == (run_id, due)


async def test_a_lane_that_is_made_while_a_flush_waits_for_its_base_is_claimed_from(postgres: Address) -> None:
    """PostgreSQL locks the rows that a statement saw when it began; the claim behind it sees more."""
    async with open_house(postgres) as first, another(postgres, first, 1) as second:
        version = await first.work("a", "b")
        old = [await first.trigger("a"), await first.trigger("b")]
        with psycopg.connect(postgres.url) as connection:  # somebody holds the first of both queues
            connection.execute(f'SELECT id FROM "{postgres.schema}".lanes ORDER BY id LIMIT 1 FOR UPDATE'.encode())
            first.free = 3
            cancelling = asyncio.create_task(cancel_and_look(first, old))
            await somebody_waits(connection, "transactionid")
            pinned = await second.trigger("b", locked_version=version)
        assert await cancelling == 2
        assert [c.run.id for c in first.claimed] == [pinned]


async def cancel_and_look(house: House, run_ids: list[str]) -> int:
    """In one flush."""
    asyncio.get_running_loop().call_soon(house.engine.wake)
    return await house.engine.call(control.cancel_children, CancelChildren(work_id="none", parent_id="nobody", children=run_ids))


async def test_on_sqlite_no_statement_of_a_flush_reads_a_table_whole(tmp_path: Any) -> None:
    async with open_house(Address(f"sqlite:///{tmp_path / 'plans.db'}")) as house:
        database = house.engine.database
        assert isinstance(database, Sqlite)
        said: dict[str, str] = {}
        writer = database._writer  # pyright: ignore[reportPrivateUsage]
        writer.set_trace_callback(lambda sql: said.setdefault(re.sub(r"'[^']*'|\b\d+\b", "?", sql), sql))
        await lives(house)
        writer.set_trace_callback(None)
        plans = {
            sql: writer.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in said.values() if re.match("SELECT|UPDATE|DELETE", sql)
        }
    assert len(plans) > 20
    aliases = LARGE | {"r", "e", "l", "b", "s", "t"}
    whole = [
        (row[3], sql)
        for sql, rows in plans.items()
        for row in rows
        if (found := re.match(r"SCAN (\w+)", row[3])) and found[1] in aliases and "INDEX" not in row[3] and "PRIMARY KEY" not in row[3]
    ]
    assert whole == []


async def test_on_postgres_no_statement_of_a_flush_reads_a_table_whole(postgres: Address) -> None:
    async with open_house(postgres) as house:
        database: Any = house.engine.database
        await house.work("t")
        before = scans(postgres, database)
        await lives(house)
        after = scans(postgres, database)
    assert sum(used for _, used in after.values()) > sum(used for _, used in before.values()) + 20
    assert {table for table in LARGE if after[table][0] > before[table][0]} == set()


def scans(address: Address, database: Any) -> dict[str, tuple[int, int]]:
    """(whole scans, index scans) of each table, the committer's own included."""
    with database.transaction() as tx:
        tx.all("SELECT pg_stat_force_next_flush()")
    with database.transaction() as tx:
        tx.all("SELECT 1")
    with psycopg.connect(address.url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT relname, seq_scan, coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE schemaname = %s", [address.schema]
        ).fetchall()
    return {row[0]: (row[1], row[2]) for row in rows}
