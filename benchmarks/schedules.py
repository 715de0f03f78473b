"""A tick of upkeep over 100,000 schedules, in an engine of its own on the house's database."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.house import House
from outlast.engine.engine import Engine
from outlast.engine.sessions import open_session
from outlast.engine.upkeep import Upkeep
from outlast.model.manifest import Manifest, TaskDefinition
from outlast.model.requests import OpenSession
from outlast.model.schedule import Schedule, started
from outlast.store import catalog
from outlast.store import schedules as store
from outlast.store.database import Connection
from outlast.store.migrate import migrate
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite

COUNT = 100_000
CHUNK = 5_000
START = 1_800_140_399_999  # a moment before midnight in Paris
MINUTE_MS = 60_000


class StillClock:
    def __init__(self) -> None:
        self.at = START

    def now(self) -> int:
        return self.at

    wall = now


async def schedules(house: House) -> dict[str, Any]:
    """100,000 schedules, spread over the minutes of a day: a tick with none due, with one, and with seventy."""
    is_postgres = house.database.startswith("postgres")
    database = Postgres(house.database, schema="many") if is_postgres else Sqlite(house.folder / "schedules.db")
    migrate(database)
    clock = StillClock()
    with database.transaction() as tx:
        catalog.add_environment(tx, id=1, slug="e", type="PRODUCTION", limit=1_000, burst=1.0, signing_secret="s", now=clock.at)
    for at in range(0, COUNT, CHUNK):
        with database.transaction() as tx:
            _fill(tx, at, clock.at)
    if isinstance(database, Postgres):
        with database.connect() as connection:
            connection.execute("ANALYZE")
    engine = Engine(database, clock=clock)
    await engine.start()
    try:
        manifest = Manifest(python="3.11", content_hash="1", tasks=[TaskDefinition(id="t", scheduled=True)])
        await engine.call(open_session, OpenSession(env_id=1, server_id="s", worker="w", boot_id="b", manifest=manifest))
        return await _measure(engine, clock)
    finally:
        await engine.close()


def _fill(tx: Connection, start: int, now: int) -> None:
    """The first ten minutes of the day have one each, all others seventy."""
    for n in range(start, start + CHUNK):
        minute = n if n < 10 else 10 + n % 1_430
        made = Schedule(
            id=f"sched_{n:09d}", env_id=1, task="t", type="IMPERATIVE", cron=f"{minute % 60} {minute // 60} * * *", timezone="Europe/Paris",
            deduplication_key=f"k{n}", created_at=now, updated_at=now,
        )  # fmt: skip
        store.insert(tx, started(made, now, "s"))


async def _measure(engine: Engine, clock: StillClock) -> dict[str, Any]:
    upkeep = Upkeep(engine)
    idle = [await _tick(upkeep, 0) for _ in range(50)]
    few, many = list[float](), list[float]()
    for _ in range(10):
        clock.at += MINUTE_MS
        few.append(await _tick(upkeep, 1))
    for _ in range(20):
        clock.at += MINUTE_MS
        many.append(await _tick(upkeep, None))
    began, fired = time.perf_counter(), 0
    clock.at += 60 * MINUTE_MS  # an hour's at once: they were missed, and are passed over
    while made := await _due(engine, clock):
        fired += made
        await upkeep.schedules()
    seconds = time.perf_counter() - began
    return {
        "count": COUNT, "idle_ms": _ms(idle), "one_due_ms": _ms(few), "a_minute_ms": _ms(many), "due_in_a_minute": COUNT // 1_430,
        "passed_per_second": round(fired / seconds),
    }  # fmt: skip


async def _due(engine: Engine, clock: StillClock) -> int:
    return len(await engine.read(lambda tx: store.due(tx, clock.now(), 1_000)))


async def _tick(upkeep: Upkeep, expected: int | None) -> float:
    began = time.perf_counter()
    made = await upkeep.schedules()
    await upkeep.engine.read(store.next_due)  # when to look again
    seconds = time.perf_counter() - began
    assert expected is None or made == expected, made
    return seconds * 1_000


def _ms(times: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(times), 2), "max": round(max(times), 2)}
