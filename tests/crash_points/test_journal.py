"""Point 44: a journal that was damaged, or that a newer version wrote."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from outlast import runs, step, task, wait
from tests.databases import Address
from tests.durable.house import open_house


@pytest.mark.parametrize("damage", ["value = '{\"cut'", "value_type = 'application/of-tomorrow'"])
async def test_point_44_a_value_that_cannot_be_read_fails_its_run_and_no_other(address: Address, tmp_path: Path, damage: str) -> None:
    def made() -> dict[str, Any]:
        return {"a": 1}

    @task
    async def two_parts(payload: str) -> Any:
        found = None
        with contextlib.suppress(Exception):  # who swallows it gets no further
            found = await step("made", made)
        await wait.for_token(payload)
        return found

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(replay_every_wait=True)
        token = await wait.create_token()
        hurt, sound = await two_parts.trigger(token.id), await two_parts.trigger(token.id)
        await house.until("SELECT execution FROM runs WHERE execution = 'SUSPENDED' GROUP BY execution HAVING count(*) = 2")
        await house.runtime.engine.write(
            lambda tx: tx.execute(f"UPDATE journal SET {damage} WHERE kind = 'step' AND run_id = :id", id=hurt.id)
        )
        await wait.complete_token(token.id, 1)
        await house.until("SELECT execution FROM runs WHERE execution = 'FINISHED' GROUP BY execution HAVING count(*) = 2")
        failed, fine = await runs.retrieve(hurt.id), await runs.retrieve(sound.id)
        assert (failed.status, fine.status) == ("FAILED", "COMPLETED")
        assert "JOURNAL_UNREADABLE" in str(
            await house.runtime.engine.read(lambda tx: tx.all("SELECT error FROM run_data WHERE run_id = :id", id=hurt.id))
        )
