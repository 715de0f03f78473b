from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import Address
from tests.end_to_end.processes import Cluster


@pytest.fixture
def cluster(address: Address, tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path, address)
    yield found
    found.stop()


@pytest.fixture
def postgres_cluster(postgres: Address, tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path, postgres)
    yield found
    found.stop()
