from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from outlast import queues, tasks
from tests.worker.desk import Desk, open_desk
from tests.worker.house import Bench


@pytest.fixture(autouse=True)
def _no_tasks() -> Iterator[None]:
    """Every test defines its own."""
    tasks.clear()
    queues.registry.clear()
    yield
    tasks.clear()
    queues.registry.clear()


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    """An executor's core in this loop, connected in memory."""
    made = Bench()
    await made.connect()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    async with open_desk() as found:
        yield found
