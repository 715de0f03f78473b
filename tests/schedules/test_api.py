"""Schedules over HTTP, in Trigger.dev's shapes, and from Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from outlast import Cron, Outlast, ScheduledPayload, schedules
from outlast.client import connection
from outlast.client.address import Address as Target
from outlast.client.connection import Connection
from outlast.engine import sessions
from outlast.errors import ApiError, ConfigurationError
from outlast.model.limits import MAX_SCHEDULES
from outlast.model.manifest import Manifest, TaskDefinition
from outlast.model.requests import OpenSession
from outlast.server.runtime import Options, Runtime
from tests.databases import Address
from tests.schedules.house import scheduled
from tests.server.conftest import Server, on_sqlite


@pytest_asyncio.fixture
async def server(address: Address, tmp_path: Path) -> AsyncIterator[Server]:
    runtime = Runtime(Options(database=address.url, schema=address.schema, data=tmp_path))
    await runtime.start()
    manifest = Manifest(python="3.11", content_hash="1", tasks=[scheduled(), scheduled("d", "0 9 * * *"), TaskDefinition(id="plain")])
    await runtime.engine.call(sessions.open_session, OpenSession(env_id=3, server_id="s", worker="w", boot_id="b", manifest=manifest))
    found = Server(runtime)
    yield found
    await found.http.aclose()
    await runtime.close()


async def make(server: Server, **body: Any) -> Any:
    wire = {"task": "t", "cron": "0 9 * * 1", "deduplicationKey": "k", **body}
    return await server.ask("POST", "/api/v1/schedules", json=wire)


async def test_a_schedule_has_trigger_devs_shape(server: Server) -> None:
    made = (await make(server, timezone="Asia/Tokyo", externalId="user_7")).json()
    assert made["id"].startswith("sched_")
    assert made["generator"] == {"type": "CRON", "expression": "0 9 * * 1", "description": "At 09:00 on Monday"}
    assert (made["type"], made["task"], made["active"], made["timezone"]) == ("IMPERATIVE", "t", True, "Asia/Tokyo")
    assert (made["deduplicationKey"], made["externalId"]) == ("k", "user_7")
    assert made["environments"] == [{"id": "3", "type": "PRODUCTION"}]
    assert made["nextRun"] == made["nextRunEffectiveAt"] and made["nextRun"].endswith("Z")
    assert "window" not in made
    assert (await server.ask("GET", f"/api/v1/schedules/{made['id']}")).json() == made


async def test_create_is_an_upsert_and_the_rest_of_the_verbs(server: Server) -> None:
    first = (await make(server)).json()
    assert (await make(server, cron="0 10 * * 1", window="50%")).json()["id"] == first["id"]
    path = f"/api/v1/schedules/{first['id']}"
    changed = (await server.ask("PUT", path, json={"task": "t", "cron": "0 11 * * 1", "overlap": "skip"})).json()
    assert (changed["generator"]["expression"], changed["overlap"], changed["deduplicationKey"]) == ("0 11 * * 1", "skip", "k")
    stopped = (await server.ask("POST", f"{path}/deactivate", json={"reason": "holiday"})).json()
    assert (stopped["active"], stopped["nextRun"], stopped["pauseReason"]) == (False, None, "holiday")
    assert (await server.ask("POST", f"{path}/activate")).json()["active"] is True
    listed = (await server.ask("GET", "/api/v1/schedules?page=1&perPage=1")).json()
    assert listed["pagination"] == {"currentPage": 1, "totalPages": 2, "count": 2}
    assert (await server.ask("DELETE", path)).json() == {"id": first["id"]}
    assert (await server.ask("GET", path)).status_code == 404


async def test_declared_schedules_are_changed_in_code_only(server: Server) -> None:
    [declared] = (await server.ask("GET", "/api/v1/schedules")).json()["data"]
    assert (declared["type"], declared["task"], declared["deduplicationKey"]) == ("DECLARATIVE", "d", None)
    answers = [
        await server.ask("DELETE", f"/api/v1/schedules/{declared['id']}"),
        await server.ask("POST", f"/api/v1/schedules/{declared['id']}/deactivate"),
        await server.ask("PUT", f"/api/v1/schedules/{declared['id']}", json={"task": "t", "cron": "0 9 * * 1"}),
    ]
    assert [a.status_code for a in answers] == [422, 422, 422]
    assert "change it in code" in answers[0].json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"cron": "* * * * * *"}, 422, "seconds"),
        ({"cron": "0 0 30 2 *"}, 422, "day"),
        ({"cron": "R * * * *"}, 422, "random"),
        ({"timezone": "Mars/Phobos"}, 422, "unknown"),
        ({"window": "soon"}, 422, "window"),
        ({"window": "101%"}, 422, "window"),
        ({"task": "nobody"}, 422, "not in the current version"),
        ({"task": "plain"}, 422, "not a scheduled task"),
        ({"cron": 5}, 400, "cron"),
        ({"deduplicationKey": ""}, 400, "deduplicationKey"),
        ({"overlap": "both"}, 400, "overlap"),
        ({"catchUp": "some"}, 400, "catchUp"),
        ({"externalId": "x" * 300}, 400, "externalId"),
    ],
)
async def test_row55_row57_bad_bodies_are_refused_by_name(server: Server, body: dict[str, Any], status: int, says: str) -> None:
    answer = await make(server, **body)
    assert answer.status_code == status
    assert says in str(answer.json())


@on_sqlite
async def test_row_56_an_environment_has_only_so_many_schedules(server: Server) -> None:
    made = (await make(server)).json()["id"]
    many = (
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :most)"
        " INSERT INTO schedules (id, env_id, task, type, cron, timezone, deduplication_key, overlap, catch_up,"
        " active, revision, created_at, updated_at)"
        " SELECT 'sched_' || n, env_id, task, type, cron, timezone, n, overlap, catch_up, 0, 1, 1, 1 FROM numbers, schedules"
        " WHERE id = :made"
    )
    await server.runtime.engine.write(lambda tx: tx.execute(many, made=made, most=MAX_SCHEDULES - 2))  # one is declared
    refused = await make(server, deduplicationKey="one more")
    assert (refused.status_code, refused.json()["code"]) == (422, "limit_exceeded")
    assert (await make(server, cron="0 10 * * 1")).status_code == 200  # what is there already may change


async def test_b170_a_schedule_of_another_environment_is_not_found(server: Server) -> None:
    made = (await make(server)).json()
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/activate"), ("POST", "/deactivate")):
        assert (await server.ask(method, f"/api/v1/schedules/{made['id']}{path}", env="dev")).status_code == 404
    assert (await server.ask("GET", "/api/v1/schedules", env="dev")).json()["data"] == []


async def test_timezones_preview_and_upcoming(server: Server) -> None:
    zones = (await server.ask("GET", "/api/v1/timezones")).json()["timezones"]
    assert "UTC" in zones and "Europe/Paris" in zones
    assert "UTC" not in (await server.ask("GET", "/api/v1/timezones?excludeUtc=true")).json()["timezones"]
    seen = (await server.ask("POST", "/api/outlast/v1/schedules/preview", json={"cron": "0 9 * * *", "count": 3})).json()
    assert len(seen["data"]) == 3 and seen["description"] == "At 09:00 every day"
    refused = await server.ask("POST", "/api/outlast/v1/schedules/preview", json={"cron": "0 9 * *"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "cron")
    made = (await make(server, cron="0 * * * *", window="30m")).json()
    [first, _] = (await server.ask("GET", f"/api/outlast/v1/schedules/{made['id']}/upcoming?count=2")).json()["data"]
    assert first == {"timestamp": made["nextRun"], "effectiveAt": made["nextRunEffectiveAt"]}


async def test_python_verbs_do_what_they_say(server: Server) -> None:
    mine = Connection(Target("http://test", server.keys["prod"]), transport=server.http._transport)
    connection.use(mine)
    try:
        made = await schedules.create(task="t", cron="0 9 * * 1", deduplication_key="k", timezone="Asia/Tokyo", overlap="skip")
        assert (made.cron, made.timezone, made.overlap) == ("0 9 * * 1", "Asia/Tokyo", "skip")
        assert made.next_run is not None and made.next_run.tzinfo is not None
        assert (await schedules.update(made.id, task="t", cron="0 10 * * 1")).cron == "0 10 * * 1"
        assert {s.id async for s in schedules.list()} >= {made.id}
        assert (await schedules.deactivate(made.id, reason="why not")).pause_reason == "why not"
        assert (await schedules.activate(made.id)).active
        assert len(await schedules.upcoming(made.id, count=3)) == 3
        assert "Europe/Paris" in await schedules.timezones()
        assert await schedules.delete(made.id) == made.id
        with pytest.raises(ApiError, match="Schedule not found"):
            await schedules.retrieve(made.id)
    finally:
        connection.stop_using(mine)
        await mine.close()


@pytest.mark.parametrize(
    "cron",
    [Cron("* * * * * *"), Cron("0 9 * * *", timezone="Nowhere"), Cron("0 9 * * *", window="x"), Cron("0 9 * * *", overlap="no")],  # pyright: ignore[reportArgumentType]
)
def test_a_declared_schedule_that_cannot_be_is_refused_at_import(cron: Cron) -> None:
    with pytest.raises(ConfigurationError):
        schedules.task(id="x", cron=cron)


async def test_a_scheduled_task_is_given_its_payload_for_real(tmp_path: Path) -> None:
    """Its nominal times of the last three minutes, through a real worker."""
    from outlast import runs, tasks

    seen: list[ScheduledPayload] = []
    tasks.clear()
    try:

        @schedules.task(id="real", cron=Cron("* * * * *", timezone="Europe/Paris"))
        async def real(payload: ScheduledPayload) -> str:
            seen.append(payload)
            return payload.timestamp.isoformat()

        async with Outlast(data=tmp_path):
            [found] = [s async for s in schedules.list()]
            assert (found.type, found.task, found.timezone) == ("DECLARATIVE", "real", "Europe/Paris")
            now = datetime.now(UTC)
            assert await schedules.backfill(found.id, start=now - timedelta(minutes=3), end=now) == 3
            made: set[str] = set()
            while len(made) < 3:  # upkeep makes them, in a step of its own
                made = {t.run_id for t in await schedules.ticks(found.id) if t.run_id is not None}
            ended = [await runs.poll(run_id) for run_id in made]
            assert all(run.is_success for run in ended)
        assert len({p.timestamp for p in seen}) == len(seen) >= 3
        assert all(p.timezone == "Europe/Paris" and len(p.upcoming) == 5 and p.timestamp.tzinfo for p in seen)
    finally:
        tasks.clear()
