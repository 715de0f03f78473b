"""Every trap of the guide: live, after a crash at each of its durable operations, and replayed at each of its waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import Address
from tests.durable.crashing import interrupted_everywhere
from tests.durable.house import open_house
from tests.durable.traps import TRAPS


@pytest.mark.parametrize("name", TRAPS)
async def test_trap(address: Address, tmp_path: Path, name: str) -> None:
    trap, env = TRAPS[name]
    async with open_house(address, tmp_path, env=env) as house:
        assert await interrupted_everywhere(house, trap) > 0
