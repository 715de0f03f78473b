from __future__ import annotations

from collections.abc import Iterator

import pytest

from outlast import queues, tasks
from tests.sdk.house import Wire, connected


@pytest.fixture(autouse=True)
def _no_tasks() -> Iterator[None]:
    """Every test defines its own."""
    tasks.clear()
    queues.registry.clear()
    yield
    tasks.clear()
    queues.registry.clear()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with connected(Wire()) as found:
        yield found
