"""Fills a database with copies of the oldest run: a backlog no client could wait for."""

from __future__ import annotations

import psycopg

from benchmarks.house import House
from outlast.store import lanes, runs
from outlast.store.database import Connection, Database
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite

CHUNK = 100_000


def seed(house: House, *, queued: int, finished: int, days_ago: int = 0) -> None:
    """Add so many queued runs to the lane of the oldest run, and beside them ones that finished so long ago."""
    database = _open(house)
    try:
        for at in range(0, queued, CHUNK):
            with database.transaction() as tx:
                _copies(tx, "q", at, min(CHUNK, queued - at), 0)
        for at in range(0, finished, CHUNK):
            with database.transaction() as tx:
                _copies(tx, "f", at, min(CHUNK, finished - at), days_ago)
        with database.transaction() as tx:
            for lane, *_ in lanes.wrong_counters(tx):
                lanes.repair(tx, lane)
        if isinstance(database, Postgres):
            with psycopg.connect(house.database, autocommit=True) as connection:  # what it would do meanwhile is not what is measured
                connection.execute("VACUUM ANALYZE")
                connection.execute("CHECKPOINT")
    finally:
        database.close()


def count_runs(house: House) -> int:
    database = _open(house)
    try:
        with database.reading() as tx:
            return tx.all("SELECT count(*) FROM runs")[0][0]
    finally:
        database.close()


def _open(house: House) -> Database:
    return Postgres(house.database) if house.database.startswith("postgres") else Sqlite(house.folder / "outlast.db")


def _copies(tx: Connection, kind: str, start: int, count: int, days_ago: int) -> None:
    numbers = (
        f"SELECT n FROM generate_series({start}, {start + count - 1}) n"
        if tx.is_postgres
        else f"WITH RECURSIVE c(n) AS (VALUES ({start}) UNION ALL SELECT n + 1 FROM c WHERE n < {start + count - 1}) SELECT n FROM c"
    )
    total = tx.all("SELECT count(*) FROM runs")[0][0]
    # ids sort as if these were made before, or after, all real runs
    id_ = f"'run_{'0' if kind == 'f' else 'z'}{total:09d}{kind}' || CAST(c.n AS TEXT)"
    over = "'COMPLETED'" if kind == "f" else "r.status"
    execution = "'FINISHED'" if kind == "f" else "r.execution"
    values = {"id": id_, "status": over, "execution": execution}
    if kind == "f":
        then = f"r.created_at - {days_ago * 86_400_000}"
        values |= {"lane_id": "NULL", "created_at": then, "finished_at": then}
    columns = ", ".join(runs.COLUMNS)
    picked = ", ".join(values.get(name, f"r.{name}") for name in runs.COLUMNS)
    oldest = "(SELECT * FROM runs WHERE lane_id IS NOT NULL AND execution = 'QUEUED' ORDER BY id LIMIT 1)"
    tx.execute(f"INSERT INTO runs ({columns}) SELECT {picked} FROM {oldest} r, ({numbers}) c")
    tx.execute(
        "INSERT INTO run_data (run_id, payload, payload_type, options)"
        f" SELECT {id_}, d.payload, d.payload_type, d.options FROM run_data d, ({numbers}) c WHERE d.run_id = (SELECT id FROM {oldest} o)"
    )
    if kind == "q":
        tx.execute(f"INSERT INTO entries (lane_id, pos, run_id) SELECT r.lane_id, r.pos, {id_} FROM {oldest} r, ({numbers}) c")
