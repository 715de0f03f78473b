"""kill -9 in the middle of 1,000 runs: everything acknowledged reaches its right end, and nothing ends twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

from outlast.client import requests
from outlast.client.connection import Connection
from tests.end_to_end.processes import Cluster, until

RUNS = 1_000


def batch(client: Connection, count: int, task: str = "e2e.work.some", **options: Any) -> list[str]:
    items = [
        {"task": task, "payload": str(n), "options": {"payloadType": "application/json", "maxAttempts": 5, **options}} for n in range(count)
    ]
    handle = client.send_sync(requests.batch(items))
    return client.send_sync(requests.retrieve_batch(handle.id)).runs


def finished(client: Connection, batch_of: list[str]) -> Counter[str]:
    """Statuses of the runs, by one request a hundred."""
    counts: Counter[str] = Counter()
    wanted = set(batch_of)
    cursor: str | None = None
    while True:
        query = {"page[size]": "100", "filter[createdAt][period]": "1h", **({"page[after]": cursor} if cursor else {})}
        page = client.send_sync(requests.list_runs(query))
        counts.update(run.status for run in page.data if run.id in wanted)
        cursor = page.next
        if cursor is None:
            return counts


def assert_all_completed_once(cluster: Cluster, client: Connection, runs: list[str], *, seconds: float) -> None:
    until(lambda: finished(client, runs)["COMPLETED"] == len(runs), seconds=seconds, what=f"{finished(client, runs)} of {len(runs)}")
    ends = Counter(line[1] for line in cluster.lines("completed"))
    assert all(count == 1 for count in ends.values())
    for run_id in (runs[0], runs[-1]):
        page = client.send_sync(requests.Request("GET", f"/api/outlast/v1/runs/{run_id}/history", lambda c, _: c.decode()))
        assert page.count('"completed"') == 1


def begin(cluster: Cluster, *arguments: str) -> tuple[Any, Any, int, Connection, list[str]]:
    server, port = cluster.server()
    worker = cluster.worker(port, "--executors", "2", "--async-slots", "20", *arguments)
    client = cluster.client(port)
    runs = batch(client, RUNS)
    until(lambda: len(cluster.lines("end")) > 150, seconds=60, what="runs begin")
    return server, worker, port, client, runs


def test_a_killed_server_loses_no_acknowledged_run(cluster: Cluster) -> None:
    server, _, port, client, runs = begin(cluster)
    cluster.kill(server)
    cluster.server(port)
    assert_all_completed_once(cluster, client, runs, seconds=90)
    starts = Counter(line[1] for line in cluster.lines("start"))
    assert max(starts.values()) == 1, "a server's restart must not run anything again"
    client.close_sync()


def test_a_killed_worker_costs_seconds_and_no_run(cluster: Cluster) -> None:
    _, worker, port, client, runs = begin(cluster)
    cluster.kill(worker)
    cluster.worker(port, "--executors", "2")
    assert_all_completed_once(cluster, client, runs, seconds=90)
    client.close_sync()


def test_a_killed_executor_is_noticed_at_once(cluster: Cluster) -> None:
    _, worker, _, client, runs = begin(cluster)
    before = len(cluster.executors(worker))
    os.kill(cluster.executors(worker)[0], signal.SIGKILL)
    assert_all_completed_once(cluster, client, runs, seconds=60)
    until(lambda: len(cluster.executors(worker)) >= before, seconds=20, what="another executor in its place")
    client.close_sync()


def test_a_run_that_kills_its_executor_runs_again_within_a_second_or_so(cluster: Cluster) -> None:
    _, port = cluster.server()
    cluster.worker(port, "--executors", "2")
    client = cluster.client(port)
    handle = client.send_sync(requests.trigger("e2e.die.once", {"payload": '"x"', "options": {"payloadType": "application/json"}}))
    run: list[Any] = []

    def is_over() -> bool:
        run[:] = [client.send_sync(requests.retrieve_run(handle.id))]
        return run[0].is_completed

    until(is_over, seconds=30, what="the run's end")
    assert (run[0].status, run[0].output) == ("COMPLETED", 2)
    client.close_sync()


def test_a_cancel_reaches_the_code(cluster: Cluster) -> None:
    _, port = cluster.server()
    cluster.worker(port, "--executors", "1")
    client = cluster.client(port)
    handle = client.send_sync(requests.trigger("e2e.work.forever", {}))
    until(lambda: len(cluster.lines("start")) == 1, seconds=30, what="the run begins")
    client.send_sync(requests.cancel_run(handle.id))
    assert client.send_sync(requests.retrieve_run(handle.id)).status == "CANCELED"
    until(lambda: len(cluster.lines("cancelled")) == 1, seconds=10, what="CancelledError in the task")
    client.close_sync()


def test_a_second_server_on_one_sqlite_file_says_so(cluster: Cluster) -> None:
    if cluster.database.is_postgres:
        return  # any number of servers share a PostgreSQL
    import subprocess

    from tests.end_to_end.processes import OUTLAST

    cluster.server()
    command = [OUTLAST, "server", "--port", "0", "--data", str(cluster.folder / "data"), "--database", cluster.database.url]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "another Outlast server" in second.stderr
