from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.databases import Address
from tests.realtime.house import Live, open_live


@pytest_asyncio.fixture
async def live(address: Address, tmp_path: Path) -> AsyncIterator[Live]:
    async with open_live(address, tmp_path) as found:
        yield found
