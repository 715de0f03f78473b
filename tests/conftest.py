"""Fixtures everyone shares: every test that takes `address` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import Address, fresh_schema, postgres_server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Address]:
    if request.param == "sqlite":
        yield Address(f"sqlite:///{tmp_path / 'data' / 'outlast.db'}")
        return
    with fresh_schema(request.getfixturevalue("postgres_url")) as found:
        yield found


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Address]:
    with fresh_schema(postgres_url) as found:
        yield found
