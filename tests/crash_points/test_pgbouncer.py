"""Point 21: PgBouncer in transaction mode. Nothing of ours may rest on a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.store.postgres import Postgres
from tests.crash_points.bouncer import pgbouncer
from tests.databases import Address
from tests.end_to_end.processes import Cluster, until
from tests.end_to_end.test_kills import batch, finished
from tests.engine.house import open_house


@pytest.mark.full
@pytest.mark.parametrize("ignores_options", [False, True])
async def test_point_21_the_engine_behind_a_pooler(postgres: Address, ignores_options: bool) -> None:
    with pgbouncer(postgres.url, ignores_options=ignores_options) as url:
        database = Postgres(url, schema=postgres.schema)
        assert database.is_pooled
        database.close()
        async with open_house(Address(url, postgres.schema)) as house:
            await house.work("t")
            runs = [await house.trigger(request_id=f"r{i}") for i in range(20)]
            for claimed in await house.claim(20):
                await house.end(claimed)
            assert {(await house.run(run_id)).status.value for run_id in runs} == {"COMPLETED"}
            await house.assert_sound()


@pytest.mark.full
def test_point_21_two_servers_and_a_worker_behind_a_pooler(postgres: Address, tmp_path: Path) -> None:
    with pgbouncer(postgres.url, ignores_options=False) as url:
        cluster = Cluster(tmp_path, Address(url, postgres.schema))
        try:
            _, one = cluster.server()
            _, two = cluster.server()
            cluster.worker(one, "--executors", "1")
            client = cluster.client(two)  # no NOTIFY: the worker's server finds out by polling
            runs = batch(client, 50)
            until(lambda: finished(client, runs)["COMPLETED"] == 50, seconds=60, what="50 runs")
        finally:
            cluster.stop()
