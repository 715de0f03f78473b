"""Metadata: written by runs and from outside, folded on the server, pushed to whoever watches."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outlast import current, metadata, runs, step, tags, task, wait
from outlast import sync as blocking
from outlast.errors import InvalidValue, OutsideRunError, Unprocessable
from outlast.model.limits import MAX_METADATA_BYTES
from tests.databases import Address
from tests.durable.house import drop, open_house
from tests.realtime.house import PATIENCE, Live


async def put(live: Live, run_id: str, **body: Any) -> Any:
    return await live.http.put(f"/api/v1/runs/{run_id}/metadata", json=body)


async def test_operations_from_outside_are_applied_in_order_and_given_back(live: Live) -> None:
    run_id = await live.trigger(metadata='{"a":1}')
    ops = [{"type": "increment", "key": "a", "value": 2}, {"type": "append", "key": "log", "value": "x"}, {"type": "delete", "key": "none"}]
    assert (await put(live, run_id, operations=ops)).json() == {"metadata": {"a": 3, "log": ["x"]}}
    assert (await put(live, run_id, metadata={"b": 1}, operations=ops[:1])).json() == {"metadata": {"b": 1, "a": 2}}
    assert (await live.http.get(f"/api/v1/runs/{run_id}/metadata")).json() == {"metadata": {"b": 1, "a": 2}}


async def test_a_hundred_writers_at_once_lose_nothing(live: Live) -> None:
    run_id = await live.trigger()
    ops = [{"type": "increment", "key": "n", "value": 1}]
    await asyncio.gather(*[put(live, run_id, operations=ops) for _ in range(100)])
    assert (await live.http.get(f"/api/v1/runs/{run_id}/metadata")).json() == {"metadata": {"n": 100}}


async def test_a_request_that_is_sent_again_is_applied_once(live: Live) -> None:
    run_id = await live.trigger()
    headers = {"x-trigger-request-idempotency-key": "again"}
    for _ in range(2):
        body = {"operations": [{"type": "increment", "key": "n", "value": 1}]}
        answer = await live.http.put(f"/api/v1/runs/{run_id}/metadata", json=body, headers=headers)
        assert answer.json() == {"metadata": {"n": 1}}


async def test_bad_metadata_is_refused(live: Live) -> None:
    """Row 48: too large, too many, of a wrong shape."""
    run_id = await live.trigger()
    assert (await put(live, run_id, metadata={"a": "x" * MAX_METADATA_BYTES})).status_code == 413
    assert (await put(live, run_id, operations=[{"type": "delete", "key": "a"}] * 1_001)).status_code == 422
    for wrong in (
        {"metadata": [1]},
        {"operations": [{"type": "explode"}]},
        {"operations": [{"type": "increment", "key": "a", "value": "1"}]},
    ):
        assert (await put(live, run_id, **wrong)).status_code == 400, wrong
    assert (await put(live, "run_none", metadata={})).status_code == 404
    assert (await live.http.get(f"/api/v1/runs/{run_id}/metadata")).json() == {"metadata": {}}


async def test_the_metadata_of_a_run_that_is_over_stays(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger(metadata='{"a":1}')
    [claimed] = await live.claim(1)
    await live.end(claimed)
    assert (await put(live, run_id, metadata={})).status_code == 422
    assert (await live.data(run_id)).metadata == '{"a":1}'


async def test_subscribers_hear_of_each_change(live: Live) -> None:
    run_id = await live.trigger()
    async with live.events(f"/api/outlast/v1/runs/{run_id}/events") as stream:
        await stream.next()
        await put(live, run_id, metadata={"p": 0.5})
        heard = await stream.next()
    assert heard is not None
    assert heard["data"]["kind"] == "metadata"
    assert heard["data"]["run"]["metadata"] == {"p": 0.5}


# ---- in a task


async def test_a_run_writes_its_own_its_parents_and_its_roots(address: Address, tmp_path: Path) -> None:
    @task
    async def leaf(payload: int) -> None:
        metadata.parent.increment("children").append("seen", payload)
        metadata.root.increment("total", 2).decrement("total")

    @task
    async def middle(payload: int) -> str:
        await asyncio.gather(*[leaf.trigger_and_wait(i) for i in range(3)])
        return run_id()

    @task
    async def top(payload: int) -> tuple[str, str, Any]:
        metadata.set("progress", 0.5).increment("rows", 10).append("log", "half way")
        inner = await middle.trigger_and_wait(1).unwrap()
        return run_id(), inner, metadata.current()

    async with open_house(address, tmp_path) as house:
        await house.work()
        outer, inner, seen = await finished(top.trigger(1, metadata={"plan": "pro"}))
        assert seen == {"plan": "pro", "progress": 0.5, "rows": 10, "log": ["half way"]}
        assert (await runs.retrieve(outer)).metadata == {**seen, "total": 3}
        found = (await runs.retrieve(inner)).metadata
        assert found is not None
        assert (found["children"], sorted(found["seen"])) == (3, [0, 1, 2])


async def test_every_write_is_made_once_whatever_is_replayed(address: Address, tmp_path: Path) -> None:
    """Settled 21: the journal counts what a scope has written, and a replay passes over so much."""

    def inside() -> None:
        metadata.increment("in steps")

    async def branch(i: int) -> None:
        metadata.increment("before").append(f"branch {i}", 1)
        await step("work", inside)
        metadata.append(f"branch {i}", 2)
        await wait.for_(hours=i + 1)
        metadata.increment("after").append(f"branch {i}", 3)

    @task
    async def program(payload: int) -> str:
        metadata.set("begun", True)
        await asyncio.gather(*[branch(i) for i in range(3)])
        await step("work", inside)
        metadata.increment("after")
        return run_id()

    expected = {"begun": True, "before": 3, "in steps": 4, "after": 4, **{f"branch {i}": [1, 2, 3] for i in range(3)}}
    async with open_house(address, tmp_path) as house:
        mortal = await house.work(replay_every_wait=True)
        assert (await runs.retrieve(await finished(program.trigger(1)))).metadata == expected
        operations = mortal.operations
        assert operations > 5
    for last in range(1, min(operations, 8)):
        folder = tmp_path / str(last)
        folder.mkdir()
        async with open_house(Address(address.url, f"{address.schema}_{last}"), folder) as house:
            mortal = await house.work(last=last)
            assert (await runs.retrieve(await finished(program.trigger(1)))).metadata == expected, f"ended at operation {last}"
            assert mortal.died.is_set()
        drop(address, f"{address.schema}_{last}")


async def test_what_a_run_reads_is_what_it_began_with_and_wrote(address: Address, tmp_path: Path) -> None:
    @task
    async def reads(payload: int) -> list[Any]:
        value = {"list": [1]}
        metadata.set("value", value)
        value["list"].append(2)  # not what was written
        found = [metadata.get("plan"), metadata.get("none", 7), metadata.get("value")]
        metadata.replace({"at": datetime(2027, 1, 1, tzinfo=UTC)})
        await metadata.flush()
        await tags.add("read", ["again"])
        return [*found, metadata.current(), (await runs.retrieve(run_id())).metadata, (await runs.retrieve(run_id())).tags]

    async with open_house(address, tmp_path) as house:
        await house.work()
        at = {"at": "2027-01-01T00:00:00.000Z"}
        assert await finished(reads.trigger(1, metadata={"plan": "pro"})) == ["pro", 7, {"list": [1]}, at, at, ["again", "read"]]


async def test_a_def_task_writes_from_its_thread(address: Address, tmp_path: Path) -> None:
    @task
    def counts(payload: int) -> str:
        for _ in range(payload):
            blocking.metadata.increment("n").set("last", payload)
        blocking.metadata.flush()
        return run_id()

    async with open_house(address, tmp_path) as house:
        await house.work()
        found = await runs.retrieve(await finished(counts.trigger(5_000)))
        assert found.metadata == {"n": 5_000, "last": 5_000}


async def test_metadata_that_grows_too_large_is_said_by_flush(address: Address, tmp_path: Path) -> None:
    @task
    async def grows(payload: int) -> list[str]:
        said: list[str] = []
        for _ in range(3):
            metadata.append("log", "x" * 100_000)
        try:
            await metadata.flush()
        except Unprocessable as error:
            said.append(str(error))
        try:
            metadata.set("a", "x" * MAX_METADATA_BYTES)
        except InvalidValue as error:
            said.append(str(error))
        return said

    async with open_house(address, tmp_path) as house:
        await house.work()
        said = await finished(grows.trigger(1))
    assert len(said) == 2
    assert all("262144 bytes" in text for text in said)


async def test_outside_a_run_nothing_happens_and_tags_say_so() -> None:
    assert metadata.set("a", 1).increment("b") is not None
    assert metadata.current() is None
    assert metadata.get("a") is None
    await metadata.flush()
    with pytest.raises(OutsideRunError, match="tags"):
        tags.add("x")
    with pytest.raises(InvalidValue, match="__proto__"):
        metadata.set("__proto__", 1)


def run_id() -> str:
    return current.required("run_id").ctx.run.id


async def finished(triggered: Any) -> Any:
    """The output of a run."""
    handle = await triggered
    async with asyncio.timeout(PATIENCE):
        while not (found := await runs.retrieve(handle.id)).is_completed:
            await asyncio.sleep(0.01)
    assert found.is_success, found.error
    return found.output
