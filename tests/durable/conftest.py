from __future__ import annotations

from collections.abc import Iterator

import pytest

from outlast import queues, tasks


@pytest.fixture(autouse=True)
def _no_tasks() -> Iterator[None]:
    """Every test defines its own."""
    tasks.clear()
    queues.registry.clear()
    yield
    tasks.clear()
    queues.registry.clear()
