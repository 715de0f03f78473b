"""A real server and worker, and the official client beside them: once for each test process, database and SDK version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.npm import HERE, install
from tests.conformance.official import Official
from tests.databases import Address, fresh_schema
from tests.end_to_end.processes import Cluster

PAIRS = [
    pytest.param(("sqlite", "4.8.3"), id="sqlite-4.8.3"),
    pytest.param(("sqlite", "4.5.12"), id="sqlite-4.5.12", marks=pytest.mark.full),
    pytest.param(("postgresql", "4.8.3"), id="postgresql-4.8.3", marks=pytest.mark.full),
    pytest.param(("postgresql", "4.5.12"), id="postgresql-4.5.12", marks=pytest.mark.full),
]


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The official packages, installed by npm on first use."""
    install()
    return HERE / "node_modules"


@pytest.fixture(scope="session", params=PAIRS)
def official(request: pytest.FixtureRequest, node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Official]:
    """The official client against a server and worker of this session, which all tests share: find your runs by ids or tags of your own."""
    database, version = request.param
    folder = tmp_path_factory.mktemp(f"conformance-{database}")
    if database == "sqlite":
        yield from _serve(folder, Address(f"sqlite:///{folder / 'data' / 'outlast.db'}"), version)
        return
    with fresh_schema(request.getfixturevalue("postgres_url")) as address:
        yield from _serve(folder, address, version)


def _serve(folder: Path, address: Address, version: str) -> Iterator[Official]:
    cluster = Cluster(folder, address, project=HERE / "project")
    client: Official | None = None
    try:
        _, port = cluster.server()
        cluster.worker(port, "--executors", "1")
        client = Official(f"http://127.0.0.1:{port}", cluster.key, version, folder / "node.log")
        client("await runs.poll(await tasks.trigger('echo', 'are you there?'), { pollIntervalMs: 100 })")
        yield client
    finally:
        if client is not None:
            client.close()
        cluster.stop()
