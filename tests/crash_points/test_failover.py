"""Point 20: the database becomes one that was behind."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from outlast.model.refusal import Refusal
from outlast.model.requests import Completed
from outlast.store.database import DatabaseError
from tests.databases import Address
from tests.engine.house import open_house
from tests.torture.postgres import Restartable, database


class Replicated:
    """A PostgreSQL, and a replica that has what was committed when it was made."""

    def __init__(self, server: Restartable, folder: Path) -> None:
        self.server = server
        self._data = folder
        self._replica = folder.with_name("replica")

    async def replicate(self) -> None:
        copy = ["cp", "-a", str(self._data), str(self._replica)]  # with its owner, who is not root
        await self.server.restart(lambda: subprocess.run(copy, check=True), orderly=True)

    async def fail_over(self) -> None:
        """To the replica, which is at the same address from now on, and may not write until it is promoted."""

        def swap() -> None:
            shutil.rmtree(self._data)
            self._replica.rename(self._data)
            (self._data / "standby.signal").touch()

        await self.server.restart(swap)

    def promote(self) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)


@pytest_asyncio.fixture
async def replicated(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replicated]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")  # what the server makes of it ends with the test
    with tempfile.TemporaryDirectory(prefix="outlast-pg-") as short:  # its socket lies in it, whose path may have 107 characters
        folder = Path(short)
        folder.chmod(0o755)  # as root it runs as somebody else
        async with database(folder, "postgresql") as server:
            assert server is not None
            yield Replicated(server, folder / "postgres")


async def test_point_20_after_a_failover_no_epoch_is_given_a_second_time(replicated: Replicated) -> None:
    async with open_house(Address(replicated.server.url)) as house:
        await house.work("t")
        early, late = await house.trigger(), await house.trigger()
        [kept] = await house.claim()
        await replicated.replicate()
        [lost] = await house.claim()
        assert (kept.run.id, lost.run.id) == (early, late)
        await replicated.fail_over()
        with pytest.raises(DatabaseError) as refused:
            await house.trigger()
        assert refused.value.unavailable
        replicated.promote()
        assert await house.history(late) == ["triggered"], "its claim was lost"
        [again] = await house.claim()
        assert again.run.id == late
        assert again.run.epoch > lost.run.epoch
        refusal = await house.end(lost)
        assert isinstance(refusal, Refusal) and refusal.code == "stale_epoch"
        assert isinstance(await house.end(again), Completed)
        assert isinstance(await house.end(kept), Completed), "what was not lost goes on"
        await house.assert_sound()
