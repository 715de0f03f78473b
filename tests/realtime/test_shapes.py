"""Realtime runs over the Electric protocol: headers, rows, offsets, handles, live polls."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from outlast.engine import control, triggers
from outlast.model.requests import AddTags, BatchCreated, CreateBatch
from outlast.model.run import RunOptions
from tests.realtime.house import ENV, Live

REQUIRED = ("electric-offset", "electric-handle", "electric-schema", "electric-cursor", "electric-up-to-date")
UP_TO_DATE = {"headers": {"control": "up-to-date"}}


class Client:
    """What Electric's client does: begin with everything, then poll on from what it was given."""

    def __init__(self, live: Live, path: str, **query: str) -> None:
        self.live = live
        self.path = path
        self.query: dict[str, str] = {"log": "full", "offset": "-1", **query}

    async def poll(self, **headers: str) -> list[dict[str, Any]]:
        """The rows of the next answer, without the control message."""
        answer = await self.live.http.get(self.path, params=self.query, headers=headers)
        assert answer.status_code == 200, answer.text
        assert all(name in answer.headers for name in REQUIRED)
        messages = answer.json()
        assert messages[-1] == UP_TO_DATE
        self.query |= {"offset": answer.headers["electric-offset"], "handle": answer.headers["electric-handle"], "live": "true"}
        return messages[:-1]

    def begin(self, **headers: str) -> asyncio.Task[list[dict[str, Any]]]:
        return asyncio.ensure_future(self.poll(**headers))


def _rows(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(m["value"]["friendlyId"], m["value"]["status"]) for m in messages]


async def test_a_client_sees_every_status_in_order_also_when_it_is_slow(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    client = Client(live, f"/realtime/v1/runs/{run_id}")
    assert _rows(await client.poll()) == [(run_id, "PENDING")]
    [claimed] = await live.claim(1)
    await live.end(claimed, output='"x"', output_type="application/json")  # both changes before it asks again
    [executing] = await client.poll()
    assert executing["value"]["status"] == "EXECUTING"
    assert executing["value"]["completedAt"] is None
    assert executing["value"]["output"] is None
    [completed] = await client.poll()
    assert completed["value"]["status"] == "COMPLETED_SUCCESSFULLY"
    assert completed["value"]["output"] == '"x"'
    assert completed["value"]["completedAt"] is not None
    assert completed["headers"] == {"operation": "update"}


async def test_a_live_poll_is_held_until_something_happens(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    client = Client(live, f"/realtime/v1/runs/{run_id}")
    await client.poll()
    held = client.begin()
    done, _ = await asyncio.wait([held], timeout=0.3)
    assert not done
    await live.claim(1)
    assert _rows(await held) == [(run_id, "EXECUTING")]


async def test_rows_are_written_as_postgres_would(live: Live) -> None:
    options = RunOptions(tags=['a"b', "c\\d"], idempotency_key="k")
    run_id = await live.trigger(options=options, payload='{"json":{"x":1}}', payload_type="application/super+json", metadata='{"m":1}')
    [message] = await Client(live, f"/realtime/v1/runs/{run_id}").poll()
    row = message["value"]
    assert message["key"] == f'"public"."TaskRun"/"{run_id}"'
    assert message["headers"] == {"operation": "insert"}
    assert all(value is None or isinstance(value, str) for value in row.values())
    assert row["runTags"] == '{"a\\"b","c\\\\d"}'
    assert (row["isTest"], row["number"], row["payload"]) == ("f", "0", '{"json":{"x":1}}')
    assert (row["payloadType"], row["metadata"], row["error"]) == ("application/super+json", '{"m":1}', None)
    assert len(row["createdAt"]) == len("2026-11-23T13:56:34.873")


async def test_columns_are_left_out_on_request_but_never_those_the_client_needs(live: Live) -> None:
    run_id = await live.trigger(payload='"secret"')
    path = f"/realtime/v1/runs/{run_id}?log=full&offset=-1&skipColumns=payload,output,id,status,nonsense"
    answer = await live.http.get(path)
    row = answer.json()[0]["value"]
    assert "payload" not in row
    assert "output" not in row
    assert {"id", "status"} <= row.keys()
    assert httpx.Response(200, text=answer.headers["electric-schema"]).json().keys() == row.keys()


async def test_an_error_has_the_shape_the_client_accepts(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger(max_attempts=1)
    [claimed] = await live.claim(1)
    await live.end(claimed, "failed")
    [message] = await Client(live, f"/realtime/v1/runs/{run_id}").poll()
    assert message["value"]["status"] == "COMPLETED_WITH_ERRORS"
    error = httpx.Response(200, text=message["value"]["error"]).json()
    assert error == {"type": "BUILT_IN_ERROR", "name": "ValueError", "message": "no", "stackTrace": ""}


async def test_what_cannot_be_gone_on_from_begins_anew(live: Live) -> None:
    run_id = await live.trigger()
    client = Client(live, f"/realtime/v1/runs/{run_id}")
    await client.poll()
    for wrong in ({"handle": "other-0"}, {"offset": "99_0"}):
        answer = await live.http.get(client.path, params={**client.query, **wrong})
        assert answer.status_code == 409
        assert answer.json() == [{"headers": {"control": "must-refetch"}}]
        assert answer.headers["electric-handle"] == client.query["handle"]
    everything = Client(live, "/realtime/v1/runs")
    await everything.poll()
    answer = await live.http.get(everything.path, params={**everything.query, "offset": "0_0"})
    assert answer.status_code == 409
    # an offset that is none of ours is none at all
    assert _rows(await Client(live, client.path, offset="x" * 3_000).poll()) == [(run_id, "PENDING_VERSION")]


async def test_a_tag_feed_has_runs_with_all_tags_of_its_window_and_those_that_come(live: Live) -> None:
    await live.work("t")
    both, one = RunOptions(tags=["a", "b"]), RunOptions(tags=["a"])
    first, other = await live.trigger(options=both), await live.trigger(options=one)
    client = Client(live, "/realtime/v1/runs", tags="a,b", createdAt="1h")
    assert _rows(await client.poll()) == [(first, "PENDING")]
    held = client.begin()
    second = await live.trigger(options=both)
    found = await held
    assert _rows(found) == [(second, "PENDING")]
    assert found[0]["headers"] == {"operation": "insert"}
    await live.engine.call(control.add_tags, AddTags(env_id=ENV, run_id=other, tags=["b"]))
    assert _rows(await client.poll()) == [(other, "PENDING")]


async def test_the_window_is_fixed_when_the_subscription_begins(live: Live) -> None:
    await live.work("t")
    old = await live.trigger(options=RunOptions(tags=["a"]))
    client = Client(live, "/realtime/v1/runs", tags="a", createdAt="0s")
    while live.engine.clock.now() <= (await live.run(old)).created_at:
        await asyncio.sleep(0.001)
    assert await client.poll() == []
    held = client.begin()
    await live.claim(1)  # changes the old run, which does not belong to it
    new = await live.trigger(options=RunOptions(tags=["a"]))
    assert _rows(await held) == [(new, "PENDING")]


async def test_a_batch_feed_follows_its_runs(live: Live) -> None:
    await live.work("t")
    batch = await live.engine.call(triggers.create_batch, CreateBatch(env_id=ENV, count=2))
    assert isinstance(batch, BatchCreated)
    ids = [await live.trigger(batch_id=batch.batch_id, batch_index=i) for i in range(2)]
    client = Client(live, f"/realtime/v1/batches/{batch.batch_id}")
    assert _rows(await client.poll()) == [(ids[0], "PENDING"), (ids[1], "PENDING")]
    held = client.begin()
    await live.claim(2)
    seen = _rows(await held)
    while len(seen) < 2:
        seen += _rows(await client.poll())
    assert seen == [(ids[0], "EXECUTING"), (ids[1], "EXECUTING")]


async def test_a_browser_is_given_one_changed_run_at_a_time(live: Live) -> None:
    """Quirk 10 of the clients: React's list hooks lose rows when an answer brings several."""
    await live.work("t")
    client = Client(live, "/realtime/v1/runs", tags="a")
    await client.poll()
    ids = [await live.trigger(options=RunOptions(tags=["a"])) for _ in range(3)]
    seen: list[tuple[str, str]] = []
    while len(seen) < 3:
        found = _rows(await client.poll(origin="http://example.com"))
        assert len(found) == 1
        seen += found
    assert [run_id for run_id, _ in seen] == ids


async def test_unknown_and_foreign_runs_and_batches_do_not_exist(live: Live) -> None:
    run_id = await live.trigger()
    foreign = {"authorization": f"Bearer {live.foreign_key}"}
    assert (await live.http.get(f"/realtime/v1/runs/{run_id}?offset=-1", headers=foreign)).status_code == 404
    assert (await live.http.get("/realtime/v1/runs/run_none?offset=-1")).status_code == 404
    assert (await live.http.get("/realtime/v1/batches/batch_none?offset=-1")).status_code == 404
    assert (await live.http.get("/realtime/v1/runs?offset=-1", headers=foreign)).json() == [UP_TO_DATE]


async def test_bad_windows_and_tags_are_refused_by_name(live: Live) -> None:
    for query in ("createdAt=soon", "tags=" + "x" * 129, "tags=" + ",".join(str(i) for i in range(11))):
        answer = await live.http.get(f"/realtime/v1/runs?offset=-1&{query}")
        assert answer.status_code == 400, query
        assert query.partition("=")[0] in answer.text


async def test_a_client_that_goes_away_frees_its_place(live: Live) -> None:
    run_id = await live.trigger()
    client = Client(live, f"/realtime/v1/runs/{run_id}")
    await client.poll()
    held = client.begin()
    opened = live.runtime.app.state.context.open
    while not opened:
        await asyncio.sleep(0.01)
    held.cancel()
    async with asyncio.timeout(30):
        while opened:
            await asyncio.sleep(0.01)
