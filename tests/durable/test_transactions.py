"""`step.transaction`: the user's writes and the step's result commit together, or neither does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from outlast import step, task, wait
from outlast.errors import StepFailed, TransactionRefused
from tests.databases import Address
from tests.durable.house import open_house


@pytest.fixture
def money(postgres: Address) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{postgres.schema}"'.encode())
        connection.execute(f'CREATE TABLE "{postgres.schema}".money (who TEXT, amount INT)'.encode())
        yield connection


def insert(address: Address) -> str:
    return f"INSERT INTO \"{address.schema}\".money VALUES ('ada', 5)"


def rows(address: Address, connection: psycopg.Connection[Any]) -> int:
    found = connection.execute(f'SELECT count(*) FROM "{address.schema}".money'.encode()).fetchone()
    assert found is not None
    return found[0]


def sqlalchemy_url(address: Address) -> str:
    return address.url.replace("postgresql://", "postgresql+psycopg://")


@pytest.mark.parametrize("library", ["sqlalchemy", "sqlalchemy async", "psycopg", "psycopg async"])
async def test_what_a_step_writes_is_there_once(postgres: Address, money: psycopg.Connection[Any], tmp_path: Path, library: str) -> None:
    def pay(session: Any, amount: int) -> int:
        session.execute(text(insert(postgres)) if library == "sqlalchemy" else insert(postgres))
        return amount * 2

    async def pay_async(session: Any, amount: int) -> int:
        await session.execute(text(insert(postgres)) if "sqlalchemy" in library else insert(postgres))
        return amount * 2

    async def paid(amount: int) -> int:
        match library:
            case "sqlalchemy":
                with Session(create_engine(sqlalchemy_url(postgres), poolclass=NullPool)) as session:
                    return await step.transaction("pay", session, pay, amount)
            case "sqlalchemy async":
                async with AsyncSession(create_async_engine(sqlalchemy_url(postgres), poolclass=NullPool)) as session:
                    return await step.transaction("pay", session, pay_async, amount)
            case "psycopg":
                with psycopg.connect(postgres.url) as connection:
                    return await step.transaction("pay", connection, pay, amount)
            case _:
                async with await psycopg.AsyncConnection.connect(postgres.url) as connection:
                    return await step.transaction("pay", connection, pay_async, amount)

    @task
    async def pays() -> list[int]:
        first = await paid(4)
        await wait.for_(days=1)
        return [first, await step("after", int)]

    async with open_house(postgres, tmp_path) as house:
        await house.work(replay_every_wait=True)
        assert await pays.trigger_and_wait().unwrap() == [8, 0]
        assert rows(postgres, money) == 1
        found = await house.runtime.engine.read(lambda tx: tx.all("SELECT label, seq, value, place FROM journal ORDER BY seq"))
        assert found == [("pay", 0, "8", 0), ("for", 1, None, 1), ("after", 2, "0", 2)]


async def test_a_death_after_the_commit_repeats_nothing(postgres: Address, money: psycopg.Connection[Any], tmp_path: Path) -> None:
    """The row is committed; the executor dies before it has told the server."""
    calls: list[int] = []

    def pay(connection: Any) -> str:
        calls.append(1)
        connection.execute(insert(postgres))
        return "paid"

    @task
    async def pays() -> str:
        with psycopg.connect(postgres.url) as connection:
            got = await step.transaction("pay", connection, pay)
        return got + (await step("after", str))

    async with open_house(postgres, tmp_path) as house:
        mortal = await house.work(last=1)
        assert await pays.trigger_and_wait().unwrap() == "paid"
        assert mortal.died.is_set()
        assert (len(calls), rows(postgres, money)) == (1, 1)


async def test_an_error_takes_the_writes_back_and_is_recorded(postgres: Address, money: psycopg.Connection[Any], tmp_path: Path) -> None:
    def pay(connection: Any) -> None:
        connection.execute(insert(postgres))
        raise ValueError("no funds")

    @task
    async def pays() -> list[str]:
        with psycopg.connect(postgres.url) as connection:
            try:
                await step.transaction("pay", connection, pay, retries=1)
            except ValueError as error:
                return [str(error), str(connection.info.transaction_status.name)]
        return []

    async with open_house(postgres, tmp_path) as house:
        await house.work()
        assert await pays.trigger_and_wait().unwrap() == ["no funds", "IDLE"]
        assert rows(postgres, money) == 0


async def test_a_run_that_is_anothers_by_now_commits_nothing(postgres: Address, money: psycopg.Connection[Any], tmp_path: Path) -> None:
    """The fence of row 61 of security, in the user's own transaction."""

    def pay(connection: Any) -> None:
        connection.execute(insert(postgres))
        money.execute(f'UPDATE "{postgres.schema}".runs SET epoch = epoch + 1'.encode())

    @task
    async def pays() -> str:
        with psycopg.connect(postgres.url) as connection:
            try:
                await step.transaction("pay", connection, pay)
            except TransactionRefused as error:
                refused.append(str(error))
                money.execute(f'UPDATE "{postgres.schema}".runs SET epoch = epoch - 1'.encode())
        return "refused"

    refused: list[str] = []
    async with open_house(postgres, tmp_path, travels=False) as house:
        await house.work()
        assert await pays.trigger_and_wait().unwrap() == "refused"
        assert "is not this execution's any more" in refused[0]
        assert rows(postgres, money) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda address: psycopg.connect(address.url, autocommit=True), "commits each statement by itself"),
        (lambda address: psycopg.connect(address.url, dbname="template1"), "another database than the server's"),
        (lambda _: Session(create_engine("sqlite://")), "is on sqlite"),
        (lambda _: object(), "neither a session"),
    ],
)
async def test_what_cannot_commit_together_is_refused_by_name(postgres: Address, tmp_path: Path, make: Any, words: str) -> None:
    @task
    async def pays() -> str:
        session = make(postgres)
        try:
            await step.transaction("pay", session, lambda _: None)
        except TransactionRefused as error:
            return str(error)
        finally:
            if hasattr(session, "close"):
                session.close()
        return ""

    async with open_house(postgres, tmp_path, travels=False) as house:
        await house.work()
        assert words in await pays.trigger_and_wait().unwrap()


async def test_on_sqlite_it_is_refused(tmp_path: Path) -> None:
    class Connection:
        autocommit = False

    Connection.__module__ = "psycopg"

    @task
    async def pays() -> str:
        try:
            await step.transaction("pay", Connection(), lambda _: None)
        except (TransactionRefused, StepFailed) as error:
            return str(error)
        return ""

    async with open_house(Address(f"sqlite:///{tmp_path}/x.db"), tmp_path, travels=False) as house:
        await house.work()
        assert "does not run on PostgreSQL" in await pays.trigger_and_wait().unwrap()
