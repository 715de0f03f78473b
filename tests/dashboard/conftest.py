"""A real server on a real port, and a real browser; one event loop for both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests import browser as browsers
from tests.dashboard.house import House, opened
from tests.databases import Address


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with browsers.browser() as found:
        yield found


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """SQLite in `make test`, both databases in `make test-full`."""
    if request.param == "sqlite":
        return Address(f"sqlite:///{tmp_path / 'data' / 'outlast.db'}")
    return request.getfixturevalue("postgres")


@pytest_asyncio.fixture(loop_scope="session")
async def house(chromium: Browser, where: Address, tmp_path: Path) -> AsyncIterator[House]:
    """A dashboard in development, open on this machine."""
    async with opened(chromium, where, tmp_path) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def locked(chromium: Browser, where: Address, tmp_path: Path) -> AsyncIterator[House]:
    """A dashboard that asks who is there."""
    async with opened(chromium, where, tmp_path, is_open=False) as found:
        yield found
