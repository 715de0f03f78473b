from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.databases import Address
from tests.engine.house import FakeClock, House, open_house
from tests.schedules.house import MONDAY


@pytest_asyncio.fixture
async def house(address: Address) -> AsyncIterator[House]:
    async with open_house(address, clock=FakeClock(MONDAY)) as found:
        yield found
        await found.assert_sound()
