"""Two servers and three workers on PostgreSQL: no limit is ever exceeded, and no run is lost."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import psycopg

from outlast.client import requests
from tests.end_to_end.processes import Cluster, until

QUEUES = {"single": 1, "narrow": 2, "wide": 10}
EACH = 800
KEYS = 100
KEYED = 7_600


def _items() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for queue in QUEUES:
        items += [{"task": "e2e.do.nothing", "payload": "1", "options": {"queue": {"name": queue}}} for _ in range(EACH)]
    items += [
        {"task": "e2e.do.nothing", "payload": "1", "options": {"queue": {"name": "keyed"}, "concurrencyKey": f"k{n % KEYS}"}}
        for n in range(KEYED)
    ]
    for item in items:
        item["options"]["payloadType"] = "application/json"
    return items


def test_limits_hold_over_two_servers_and_three_workers(postgres_cluster: Cluster) -> None:
    cluster = postgres_cluster
    _, first = cluster.server()
    _, second = cluster.server()
    for port in (first, second, first):
        cluster.worker(port, "--executors", "1")
    client, items = cluster.client(first), _items()
    for start in range(0, len(items), 1_000):
        client.send_sync(requests.batch(items[start : start + 1_000]))
    with psycopg.connect(cluster.database.url, autocommit=True) as database:
        table = f'"{cluster.database.schema}".'

        def left() -> int:
            row = database.execute(f"SELECT count(*) FROM {table}runs WHERE finished_at IS NULL".encode()).fetchone()
            assert row is not None
            return row[0]

        until(lambda: left() == 0, seconds=240, what="all runs end")
        statuses = dict(database.execute(f"SELECT status, count(*) FROM {table}runs GROUP BY status".encode()).fetchall())
        events = database.execute(
            f"SELECT r.queue, r.concurrency_key, e.kind, e.seq, e.data FROM {table}events e"
            f" JOIN {table}runs r ON r.id = e.run_id ORDER BY e.seq".encode()
        ).fetchall()
        slots = database.execute(f"SELECT count(*) FROM {table}slots".encode()).fetchone()
        used = database.execute(f"SELECT sum(used), sum(queued) FROM {table}lanes".encode()).fetchone()
    assert statuses == {"COMPLETED": len(items)}
    assert (slots, used) == ((0,), (0, 0))
    _assert_limits(events)
    client.close_sync()


def _assert_limits(events: list[tuple[Any, ...]]) -> None:
    """Replays the recorded claims and ends. A lane's changes share its lock, so their order in the table is their order in time."""
    held: Counter[tuple[str, str | None]] = Counter()
    highest: dict[str, int] = defaultdict(int)
    for queue, key, kind, _, data in events:
        lane = (queue, key if queue == "keyed" else None)
        status = json.loads(data)["execution"]
        if "started" in kind and status == "EXECUTING":
            held[lane] += 1
            highest[queue] = max(highest[queue], held[lane])
        elif status == "FINISHED":
            held[lane] -= 1
    assert all(count == 0 for count in held.values())
    for queue, limit in {**QUEUES, "keyed": 1}.items():
        assert 1 <= highest[queue] <= limit, f"{queue}: {highest[queue]} at once, the limit is {limit}"
