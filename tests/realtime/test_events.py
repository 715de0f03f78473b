"""GET /api/outlast/v1/runs/{run}/events: plain server-sent events of a run."""

from __future__ import annotations

import asyncio

import httpx

from outlast.server.realtime.limits import PER_TOKEN
from tests.realtime.house import PATIENCE, Live


async def test_a_run_is_followed_from_its_state_of_now_to_its_end(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    async with live.events(f"/api/outlast/v1/runs/{run_id}/events") as stream:
        first = await stream.next()
        assert first is not None
        assert first["data"]["status"] == "QUEUED"
        [claimed] = await live.claim(1)
        await live.end(claimed, output='{"x": 1}', output_type="application/json")
        rest = await stream.all()
    assert [(e["id"], e["data"]["status"]) for e in rest] == [("2", "EXECUTING"), ("3", "COMPLETED")]
    assert "finishedAt" not in rest[0]["data"]["run"]
    assert rest[1]["data"]["run"]["output"] == {"x": 1}


async def test_it_goes_on_after_the_last_event_id(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    [claimed] = await live.claim(1)
    await live.end(claimed)
    path = f"/api/outlast/v1/runs/{run_id}/events"
    async with live.events(path, **{"last-event-id": "1"}) as stream:
        assert [e["data"]["status"] for e in await stream.all()] == ["EXECUTING", "COMPLETED"]
    # an EventSource comes again after every end but this one
    assert (await live.http.get(path, headers={"last-event-id": "3"})).status_code == 204


async def test_garbage_as_last_event_id_begins_with_the_state_of_now(live: Live) -> None:
    """Row 82 of the bad inputs."""
    await live.work("t")
    run_id = await live.trigger()
    [claimed] = await live.claim(1)
    await live.end(claimed)
    for garbage in ("-1", "x" * 5_000, "9" * 15, "١", "1e9", ""):
        async with live.events(f"/api/outlast/v1/runs/{run_id}/events", **{"last-event-id": garbage.encode()}) as stream:  # type: ignore[dict-item]
            assert [e["data"]["status"] for e in await stream.all()] == ["COMPLETED"], garbage[:20]


async def test_a_run_of_another_environment_does_not_exist(live: Live) -> None:
    run_id = await live.trigger()
    answer = await live.http.get(f"/api/outlast/v1/runs/{run_id}/events", headers={"authorization": f"Bearer {live.foreign_key}"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


async def test_a_server_that_stops_ends_its_streams_at_once(live: Live) -> None:
    run_id = await live.trigger()
    async with live.events(f"/api/outlast/v1/runs/{run_id}/events") as stream:
        await stream.next()
        live.runtime.end_streams()
        assert await stream.next() is None


async def test_an_event_source_without_headers_comes_with_a_public_token_in_the_address(live: Live) -> None:
    """Row 10: it sees the run its scope names, and no other; a key in an address is nobody's."""
    await live.work("t")
    mine, other = await live.trigger(), await live.trigger()
    for claimed in await live.claim(2):
        await live.end(claimed)
    made = await live.http.post("/api/v1/auth/public-tokens", json={"scopes": [f"read:runs:{mine}"]})
    token = made.json()["token"]
    async with httpx.AsyncClient(base_url=live.url, trust_env=False) as browser:
        assert '"status":"COMPLETED"' in (await browser.get(f"/api/outlast/v1/runs/{mine}/events?token={token}")).text
        assert (await browser.get(f"/api/outlast/v1/runs/{other}/events?token={token}")).status_code == 403
        assert (await browser.get(f"/api/outlast/v1/runs/{mine}/events?token={live.key}")).status_code == 401


async def test_one_token_cannot_take_a_server_for_itself(live: Live) -> None:
    """Row 82: 429 beyond the limit of a token; the others go on."""
    run_id = await live.trigger()
    token = (await live.http.post("/api/v1/auth/public-tokens", json={"scopes": [f"read:runs:{run_id}"]})).json()["token"]
    opened = live.runtime.app.state.context.open
    before = dict(opened)
    async with live.events(f"/api/outlast/v1/runs/{run_id}/events", authorization=f"Bearer {token}") as stream:
        await stream.next()
        [name] = [name for name in opened if name.startswith("token:")]
        opened[name] = PER_TOKEN
        for path in (f"/api/outlast/v1/runs/{run_id}/events", f"/realtime/v1/runs/{run_id}?offset=-1"):
            refused = await live.http.get(path, headers={"authorization": f"Bearer {token}"})
            assert refused.status_code == 429
            assert "retry-after" in refused.headers
        assert (await live.http.get(f"/realtime/v1/runs/{run_id}?offset=-1")).status_code == 200
        opened[name] = 1
    async with asyncio.timeout(PATIENCE):
        while dict(opened) != before:
            await asyncio.sleep(0.01)
