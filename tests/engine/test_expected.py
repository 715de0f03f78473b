"""Writes that must touch a certain number of rows: nothing is kept of a transaction in which one does not, and the next one works."""

from __future__ import annotations

import pytest

from outlast.store.database import Again
from tests.engine.house import House

_ANSWER = ("request_a", "run_1", "h", 1_000)
_COLUMNS = ("id", "answer", "body_hash", "expires_at")


@pytest.mark.parametrize("reads_after", [False, True], ids=["at_commit", "before_an_answer"])
async def test_a_row_that_is_there_already_undoes_everything(house: House, reads_after: bool) -> None:
    database = house.engine.database

    def write() -> None:
        with database.transaction() as tx:
            tx.insert("requests", _COLUMNS, [("request_b", "run_2", "h", 1_000)], expect=1)
            tx.insert("requests", _COLUMNS, [("request_c", "run_3", "h", 1_000), _ANSWER], or_ignore=True, expect=2, otherwise=Again)
            if reads_after:
                tx.all("SELECT id FROM requests")

    with database.transaction() as tx:
        tx.insert("requests", _COLUMNS, [_ANSWER], or_ignore=True, expect=1, otherwise=Again)
    with pytest.raises(Again):
        write()
    with database.transaction() as tx:
        assert tx.all("SELECT id FROM requests") == [("request_a",)]


async def test_a_row_that_is_gone_is_our_own_mistake(house: House) -> None:
    database = house.engine.database

    def write() -> None:
        with database.transaction() as tx:
            tx.insert("requests", _COLUMNS, [_ANSWER], expect=1)
            tx.delete("requests", ["id"], [("request_a",), ("request_z",)], expect=2)

    with pytest.raises(AssertionError, match="requests"):
        write()
    with database.transaction() as tx:
        assert tx.all("SELECT id FROM requests") == []
