"""Bulk actions: in steps, resumable, with undo; behaviour 140."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from outlast.engine import bulk
from outlast.model.bulk import AbortBulk, BulkAction, StartBulk, StepBulk
from outlast.model.refusal import Refusal
from outlast.model.run import Status
from outlast.store import bulk as store
from outlast.store.search import Filter
from tests.engine.house import House
from tests.server.conftest import Server
from tests.server.conftest import server as server


async def start(house: House, type: Any, **fields: Any) -> BulkAction:
    if "run_ids" in fields:
        fields["run_ids"] = msgspec.json.encode(sorted(fields["run_ids"], reverse=True)).decode()
    if "filter" in fields:
        fields["filter"] = msgspec.json.encode(Filter(env_id=1, **fields["filter"])).decode()
    made = await house.engine.call(bulk.start_bulk, StartBulk(env_id=1, type=type, total=0, **fields))
    assert not isinstance(made, Refusal), made
    return made


async def finish(house: House, action: BulkAction) -> BulkAction:
    found = action
    while found.status == "PENDING" and await house.upkeep.work():
        found = await look(house, action.id)
    return await look(house, action.id)


async def look(house: House, bulk_id: str) -> BulkAction:
    found = await house.engine.read(lambda tx: store.one(tx, 1, bulk_id))
    assert found is not None
    return found


async def statuses(house: House, runs: list[str]) -> list[Status]:
    return [(await house.run(run)).status for run in runs]


async def test_a_filter_cancels_all_that_match_in_steps(house: House) -> None:
    await house.work("t", "u")
    made = [await house.trigger() for _ in range(bulk.STEP * 2 + 5)]
    other = await house.trigger("u")
    done = await finish(house, await start(house, "CANCEL", filter={"tasks": ["t"]}))
    assert (done.status, done.success, done.failure, done.total) == ("COMPLETED", len(made), 0, len(made))
    assert set(await statuses(house, made)) == {Status.CANCELED}
    assert (await house.run(other)).status is Status.QUEUED


async def test_b140_a_run_that_is_over_and_one_that_is_not_there_are_recorded_as_failures(house: House) -> None:
    await house.work("t")
    over, waiting = await house.trigger(), await house.trigger()
    await house.cancel(over)
    done = await finish(house, await start(house, "CANCEL", run_ids=[over, waiting, "run_unknown"]))
    assert (done.success, done.failure) == (1, 2)
    items = await house.engine.read(lambda tx: tx.all("SELECT run_id, error FROM bulk_items WHERE bulk_id = :id", id=done.id))
    errors = dict(items)
    assert errors[waiting] is None and "already" in errors[over] and errors["run_unknown"] == "Run not found"


async def test_replays_are_made_once_however_often_a_step_is_done(house: House) -> None:
    await house.work("t", "u", "v")
    made = [await house.trigger(task, payload=f'"{task}"', concurrency_key=key) for task in ("t", "u", "v") for key in ("a", "b", None)]
    for claimed in await house.claim(20):
        await house.end(claimed, "failed")
    action = await start(house, "REPLAY", filter={"statuses": ["FAILED"]})
    targets = await house.engine.read(lambda tx: store.targets(tx, action, bulk.STEP))
    [(work_id,)] = await house.engine.read(lambda tx: tx.all("SELECT id FROM work WHERE kind = 'bulk'"))
    step = StepBulk(env_id=1, bulk_id=action.id, work_id=work_id, cursor=None, targets=targets)
    assert await house.engine.call(bulk.step_bulk, step) is True
    assert await house.engine.call(bulk.step_bulk, step) is True, "a second server at the same place does nothing"
    done = await finish(house, action)
    assert (done.status, done.success, done.failure) == ("COMPLETED", len(made), 0)
    claimed = await house.claim(50)
    assert sorted(c.data.payload or "" for c in claimed) == sorted(f'"{task}"' for task in ("t", "u", "v") for _ in range(3))
    assert {c.data.options.bulk_action_id for c in claimed} == {action.id}


async def test_an_aborted_action_stops_between_its_steps(house: House) -> None:
    await house.work("t")
    made = [await house.trigger() for _ in range(bulk.STEP + 10)]
    action = await start(house, "CANCEL", run_ids=made)
    targets = await house.engine.read(lambda tx: store.targets(tx, action, bulk.STEP))
    await house.engine.call(bulk.step_bulk, StepBulk(env_id=1, bulk_id=action.id, work_id="w", cursor=None, targets=targets))
    await house.engine.call(bulk.abort_bulk, AbortBulk(env_id=1, bulk_id=action.id))
    done = await finish(house, action)
    assert (done.status, done.success) == ("ABORTED", bulk.STEP)
    assert (await statuses(house, made)).count(Status.QUEUED) == 10


async def test_undo_cancels_the_replays_that_wait_and_leaves_those_that_run(house: House) -> None:
    await house.work("t")
    first = [await house.trigger() for _ in range(3)]
    for claimed in await house.claim(3):
        await house.end(claimed, "failed")
    replayed = await finish(house, await start(house, "REPLAY", run_ids=first))
    [running] = await house.claim(1)
    undone = await finish(house, await start(house, "CANCEL", undo_of=replayed.id))
    assert (undone.status, undone.success, undone.failure) == ("COMPLETED", 2, 0)
    assert (await house.run(running.run.id)).status is Status.EXECUTING


async def test_undo_of_a_cancel_replays_what_had_not_begun(house: House) -> None:
    await house.work("t")
    made = [await house.trigger() for _ in range(3)]
    [running] = await house.claim(1)
    cancelled = await finish(house, await start(house, "CANCEL", run_ids=made))
    await house.end(running, "cancelled")
    undone = await finish(house, await start(house, "REPLAY", undo_of=cancelled.id))
    assert (undone.success, len(await house.claim(10))) == (2, 2)


async def test_too_many_replays_at_a_time_are_refused(house: House) -> None:
    for _ in range(5):
        await start(house, "REPLAY", run_ids=["run_x"])
    refused = await house.engine.call(bulk.start_bulk, StartBulk(env_id=1, type="REPLAY", total=0, run_ids="[]"))
    assert isinstance(refused, Refusal)
    assert refused.code == "too_many"


# ---- over HTTP


async def test_a_bulk_action_over_http(server: Server) -> None:
    ids = [(await server.trigger(tags=["x"])).json()["id"] for _ in range(3)]
    made = await server.ask("POST", "/api/v1/bulk-actions", json={"action": "cancel", "filter": {"tag": "x"}, "name": "cleanup"})
    assert made.status_code == 202
    path = f"/api/v1/bulk-actions/{made.json()['id']}"
    seen = (await server.ask("GET", f"{path}?wait=30")).json()
    assert (seen["type"], seen["status"], seen["name"]) == ("CANCEL", "COMPLETED", "cleanup")
    assert seen["counts"] == {"total": 3, "success": 3, "failure": 0}
    assert (await server.ask("GET", f"/api/v3/runs/{ids[0]}")).json()["status"] == "CANCELED"
    listed = (await server.ask("GET", "/api/v1/bulk-actions?page[size]=1")).json()
    assert [row["id"] for row in listed["data"]] == [seen["id"]] and listed["pagination"] == {}
    assert (await server.ask("POST", f"{path}/abort")).json() == {"id": seen["id"]}
    undone = (await server.ask("POST", f"/api/outlast/v1/bulk-actions/{seen['id']}/undo")).json()["id"]
    assert (await server.ask("GET", f"/api/v1/bulk-actions/{undone}?wait=30")).json()["counts"]["success"] == 3
    assert (await server.ask("GET", path, env="dev")).status_code == 404


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"action": "delete", "runIds": ["run_1"]}, "action"),
        ({"action": "cancel"}, "either"),
        ({"action": "cancel", "runIds": ["run_1"], "filter": {}}, "either"),
        ({"action": "cancel", "runIds": []}, "500"),
        ({"action": "cancel", "runIds": ["run_1"] * 501}, "500"),
        ({"action": "cancel", "runIds": ["run_\x00"]}, "no id"),
        ({"action": "cancel", "filter": {"status": "NO"}}, "status"),
        ({"action": "cancel", "filter": {"colour": "red"}}, "colour"),
        ({"action": "cancel", "filter": {"period": "soon"}}, "period"),
        ({"action": "cancel", "filter": {}, "name": "x" * 300}, "name"),
    ],
)
async def test_bad_bulk_actions_are_refused_by_name(server: Server, body: dict[str, Any], says: str) -> None:
    answer: httpx.Response = await server.ask("POST", "/api/v1/bulk-actions", json=body)
    assert answer.status_code == 400
    assert says in answer.text
