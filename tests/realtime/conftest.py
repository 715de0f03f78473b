from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from outlast import tasks
from tests.databases import Address
from tests.realtime.house import Live, open_live


@pytest.fixture(autouse=True)
def _no_tasks() -> Iterator[None]:
    """Every test defines its own."""
    tasks.clear()
    yield
    tasks.clear()


@pytest_asyncio.fixture
async def live(address: Address, tmp_path: Path) -> AsyncIterator[Live]:
    async with open_live(address, tmp_path) as found:
        yield found
