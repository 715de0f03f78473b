"""Waiting runs over the deaths of everything: executor, server, worker, in the middle of their waits."""

from __future__ import annotations

import os
import signal
from collections import defaultdict

from outlast.client import requests
from tests.end_to_end.processes import Cluster, until
from tests.end_to_end.test_kills import batch, finished

PARENTS, CHILDREN = 100, 4


def test_waiting_runs_survive_the_death_of_everything(cluster: Cluster) -> None:
    server, port = cluster.server()
    worker = cluster.worker(port, "--executors", "2")
    client = cluster.client(port)
    runs = batch(client, PARENTS, "e2e.wait.parent")

    def effects(name: str) -> int:
        return len({line[1] for line in cluster.lines("effect") if line[1].endswith(name)})

    until(lambda: effects("first") == PARENTS, seconds=60, what="every parent has begun")
    os.kill(cluster.executors(worker)[0], signal.SIGKILL)
    until(lambda: effects("side") >= PARENTS // 3, seconds=60, what="some parents go on")
    cluster.kill(server)
    cluster.server(port)
    cluster.kill(worker)
    cluster.worker(port, "--executors", "2")
    until(lambda: finished(client, runs)["COMPLETED"] == PARENTS, seconds=120, what="all parents end well")
    keys: dict[str, set[str]] = defaultdict(set)
    for _, step, key in cluster.lines("effect"):
        keys[step].add(key)
    assert len(keys) == 3 * PARENTS
    assert {step: len(found) for step, found in keys.items()} == dict.fromkeys(keys, 1)
    for n in (0, PARENTS - 1):
        found = client.send_sync(requests.retrieve_run(runs[n]))
        assert found.output == ["first", n * 2, 2, "side", 2, 4, "last"]
    made = finished_children(cluster)
    assert made == PARENTS * CHILDREN, "no child was made twice"
    client.close_sync()


def test_an_executor_that_parked_many_runs_is_replaced_and_none_is_lost(cluster: Cluster) -> None:
    _, port = cluster.server()
    worker = cluster.worker(port, "--executors", "1", "--hot-waits", "4")
    client = cluster.client(port)
    until(lambda: len(cluster.executors(worker)) == 1, seconds=30, what="an executor is there")
    [first] = cluster.executors(worker)
    runs = batch(client, PARENTS, "e2e.wait.parent")
    until(lambda: first not in cluster.executors(worker), seconds=60, what="the first executor is replaced")
    until(lambda: finished(client, runs)["COMPLETED"] == PARENTS, seconds=120, what="all parents end well")
    keys: dict[str, set[str]] = defaultdict(set)
    for _, step, key in cluster.lines("effect"):
        keys[step].add(key)
    assert {step: len(found) for step, found in keys.items()} == dict.fromkeys(keys, 1)
    assert finished_children(cluster) == PARENTS * CHILDREN
    client.close_sync()


def finished_children(cluster: Cluster) -> int:
    from tests.engine.house import open_store

    database = open_store(cluster.database)
    try:
        with database.reading() as tx:
            return tx.all("SELECT count(*) FROM runs WHERE task = 'e2e.wait.child'")[0][0]
    finally:
        database.close()
