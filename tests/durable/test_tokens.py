"""Tokens and races: what people and other programs complete, and which wait came first."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from pydantic import BaseModel

from outlast import runs, step, task, wait
from outlast.errors import NotFound, Unprocessable, WaitTimedOut
from tests.databases import Address
from tests.durable.house import House, open_house


class Approval(BaseModel):
    status: str


async def raw(house: House, method: str, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=house.runtime.app), base_url="http://x") as client:
        return await client.request(method, path, **options)


async def test_a_token_is_completed_from_outside_and_its_value_read_by_type(address: Address, tmp_path: Path) -> None:
    @task
    async def asks() -> str:
        token = await wait.create_token(timeout="10d", tags=["order:7"])
        answer = await wait.for_token(token, type=Approval).unwrap()
        return answer.status

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work(replay_every_wait=True)
        handle = await asks.trigger()
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED'")
        [token] = [t async for t in wait.list_tokens(status="WAITING", tag="order:7")]
        await wait.complete_token(token, {"status": "approved"})
        await wait.complete_token(token, {"status": "denied"})  # a second time changes nothing
        assert (await runs.poll(handle)).output == "approved"
        found = await wait.retrieve_token(token.id)
        assert (found.status, found.output, found.output_is_error) == ("COMPLETED", {"status": "approved"}, False)


async def test_a_callback_needs_no_key_and_the_right_secret(address: Address, tmp_path: Path) -> None:
    @task
    async def asks() -> Any:
        token = await wait.create_token()
        return (await wait.for_token(token)).output

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        handle = await asks.trigger()
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED'")
        [token] = [t async for t in wait.list_tokens()]
        path = token.url.removeprefix("http://x")
        assert (await raw(house, "POST", path[:-4] + "0000", json={})).status_code == 401
        assert (await raw(house, "POST", path, content=b"{", headers={"content-type": "application/json"})).status_code == 400
        assert (await raw(house, "POST", path, content=b'"' + b"x" * 600_000 + b'"')).status_code == 413
        assert (await raw(house, "POST", path, json={"paid": True})).json() == {"success": True}
        assert (await runs.poll(handle)).output == {"paid": True}


async def test_a_token_that_nobody_completes_times_out_as_a_result(address: Address, tmp_path: Path) -> None:
    @task
    async def asks() -> list[Any]:
        token = await wait.create_token(timeout="3d")
        result = await wait.for_token(token)
        with pytest.raises(WaitTimedOut):
            result.unwrap()
        return [result.ok, result.error.name, (await wait.for_token(token)).ok]

    async with open_house(address, tmp_path) as house:
        await house.work()
        assert await asks.trigger_and_wait().unwrap() == [False, "WaitTimedOut", False]
        [token] = [t async for t in wait.list_tokens(status="TIMED_OUT")]
        found = await wait.retrieve_token(token)
        assert (found.output_is_error, found.output["code"]) == (True, "TRIGGER_WAITPOINT_TIMEOUT")


async def test_several_runs_wait_for_one_token_and_a_key_gives_the_same(address: Address, tmp_path: Path) -> None:
    @task
    async def asks(payload: str) -> Any:
        return (await wait.for_token(payload)).output

    async with open_house(address, tmp_path, travels=False) as house:
        await house.work()
        token = await wait.create_token(idempotency_key="one", tags=["a"])
        assert [t.id async for t in wait.list_tokens(tag=["a", "b"], period="1h")] == [token.id]
        assert [t.id async for t in wait.list_tokens(created_to=datetime(2001, 1, 1, tzinfo=UTC))] == []
        assert (await wait.create_token(idempotency_key="one")).is_cached
        handles = [await asks.trigger(token.id) for _ in range(3)]
        await house.until("SELECT 1 FROM runs WHERE execution = 'SUSPENDED' GROUP BY env_id HAVING count(*) = 3")
        await wait.complete_token(token.id, 5)
        assert [(await runs.poll(h)).output for h in handles] == [5, 5, 5]
        assert (await runs.poll(await asks.trigger(token.id))).output == 5
        with pytest.raises(NotFound):
            await wait.complete_token("waitpoint_nothing")
        failed = await asks.trigger_and_wait("waitpoint_nothing")
        assert Unprocessable.__name__ in failed.error.name


@pytest.mark.parametrize("replay", [False, True])
async def test_a_race_takes_the_same_way_in_a_replay(address: Address, tmp_path: Path, replay: bool) -> None:
    @task
    async def child(payload: int) -> int:
        await wait.for_(hours=payload)
        if payload == 1:
            raise ValueError("one")
        return payload

    @task
    async def racer() -> list[Any]:
        won = await wait.first(wait.for_(days=9), child.trigger_and_wait(3), wait.for_(days=5))
        good = await wait.any(child.trigger_and_wait(1), child.trigger_and_wait(2))
        order = [(i, v.output) async for i, v in wait.as_completed(*[child.trigger_and_wait(h) for h in (6, 4, 5)])]
        last = await step("after", int)
        return [won.index, cast("Any", won.value).output, good.index, good.value.output, order, last]

    async with open_house(address, tmp_path) as house:
        await house.work(replay_every_wait=replay)
        assert await racer.trigger_and_wait().unwrap() == [1, 3, 1, 2, [[1, 4], [2, 5], [0, 6]], 0]
        statuses = await house.runtime.engine.read(lambda tx: tx.all("SELECT status FROM journal WHERE kind = 'wait' AND label = 'for'"))
        assert ("abandoned",) in statuses
