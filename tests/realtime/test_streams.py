"""Streams over HTTP: written live, read from anywhere, each part once, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from outlast.engine import streams as engine
from outlast.model import limits
from outlast.model.streams import AppendStream, Part
from outlast.store import streams
from tests.databases import Address
from tests.realtime.house import ENV, PATIENCE, Live, open_live


async def write(live: Live, run_id: str, *chunks: Any, key: str = "ai", **headers: str) -> Any:
    body = b"".join(msgspec.json.encode(chunk) + b"\n" for chunk in chunks)
    return await live.http.post(f"/realtime/v1/streams/{run_id}/self/{key}", content=body, headers=headers)


async def data(live: Live, path: str, **headers: str) -> list[Any]:
    """What a reader is given until the server ends the stream."""
    async with live.events(path, **headers) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["x-stream-version"] == "v2"
        return [body for event in await stream.all() for body in bodies(event)]


def bodies(event: dict[str, Any]) -> list[Any]:
    assert event["event"] == "batch"
    return [msgspec.json.decode(record["body"])["data"] for record in event["data"]["records"]]


async def ended(live: Live) -> None:
    [claimed] = await live.claim(1)
    await live.end(claimed)


async def test_a_reader_sees_chunks_while_they_are_written_and_the_end_of_the_run(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    go_on = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"n":1}\n"tw'
        await go_on.wait()
        yield b'o"\n3'

    async with live.events(f"/realtime/v1/streams/{run_id}/ai") as stream:
        writing = asyncio.ensure_future(live.http.post(f"/realtime/v1/streams/{run_id}/self/ai", content=chunks()))
        first = await stream.next()
        assert first is not None
        assert bodies(first) == [{"n": 1}]
        record = first["data"]["records"][0]
        assert (record["seq_num"], record["headers"], first["id"]) == (0, [], "0")
        go_on.set()
        assert (await writing).status_code == 200
        await ended(live)
        assert [body for event in await stream.all() for body in bodies(event)] == ["two", 3]


async def test_reading_goes_on_after_any_record(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    await write(live, run_id, *range(10))
    await write(live, run_id, *range(10, 12))
    await ended(live)
    path = f"/realtime/v1/streams/{run_id}/ai"
    assert await data(live, path) == list(range(12))
    assert await data(live, path, **{"last-event-id": "7"}) == [8, 9, 10, 11]
    assert await data(live, path, **{"last-event-id": "-1"}) == list(range(12))
    assert await data(live, path, **{"last-event-id": "99"}) == []
    for garbage in ("x" * 3_000, "1e3", "", "-"):  # row 82
        assert await data(live, path, **{"last-event-id": garbage}) == list(range(12)), garbage[:20]
    async with live.events(path, **{"x-trigger-realtime-streams-version": "v1", "last-event-id": "1700000000000-9"}) as old:
        found = await old.all()
    assert [(event["data"], event["id"].rpartition("-")[2]) for event in found] == [(10, "10"), (11, "11")]


async def test_a_reader_that_wants_only_what_comes_begins_at_the_end(live: Live) -> None:
    run_id = await live.trigger()
    await write(live, run_id, "old")
    async with live.events(f"/realtime/v1/streams/{run_id}/ai", **{"x-trigger-stream-start": "latest"}) as stream:
        await write(live, run_id, "new")
        event = await stream.next()
        assert event is not None
        assert bodies(event) == ["new"]


async def test_nothing_for_a_while_ends_a_reader(live: Live) -> None:
    run_id = await live.trigger()
    assert await data(live, f"/realtime/v1/streams/{run_id}/none", **{"timeout-seconds": "1"}) == []
    for wrong in ("0", "601", "x", "-1"):
        answer = await live.http.get(f"/realtime/v1/streams/{run_id}/none", headers={"timeout-seconds": wrong})
        assert answer.status_code == 400, wrong


async def test_what_a_writer_sends_again_is_dropped(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    path = f"/realtime/v1/streams/{run_id}/self/ai"
    mine = {"x-client-id": "w1"}
    assert (await live.http.head(path, headers=mine)).headers["x-last-chunk-index"] == "-1"
    await write(live, run_id, "a", "b", **mine)
    assert (await live.http.head(path, headers=mine)).headers["x-last-chunk-index"] == "1"
    await write(live, run_id, "a", "b", "c", **mine)  # it did not hear the answer
    await write(live, run_id, "d", **mine, **{"x-resume-from-chunk": "3"})
    await write(live, run_id, "other", **{"x-client-id": "w2"})
    for _ in range(2):
        assert (await live.http.post(f"{path}/append", content='{"raw":1}', headers={"x-part-id": "p"})).json() == {"ok": True}
    await ended(live)
    assert await data(live, f"/realtime/v1/streams/{run_id}/ai") == ["a", "b", "c", "d", "other", '{"raw":1}']


async def test_many_writers_of_one_stream_lose_nothing(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    await asyncio.gather(*[write(live, run_id, *[f"{w}.{i}" for i in range(20)]) for w in range(10)])
    await ended(live)
    found = await data(live, f"/realtime/v1/streams/{run_id}/ai")
    assert sorted(found) == sorted(f"{w}.{i}" for w in range(10) for i in range(20))
    assert [x for x in found if x.startswith("3.")] == [f"3.{i}" for i in range(20)]


async def test_a_run_shows_the_streams_it_has(live: Live) -> None:
    run_id = await live.trigger()
    async with live.events(f"/api/outlast/v1/runs/{run_id}/events") as watching:
        await watching.next()
        answer = await live.http.put(f"/realtime/v1/streams/{run_id}/self/ai")
        assert (answer.status_code, answer.json()) == (202, {"version": "v1"})
        heard = await watching.next()
    assert heard is not None
    assert heard["data"]["kind"] == "stream"
    row = (await live.http.get(f"/realtime/v1/runs/{run_id}?offset=-1")).json()[0]["value"]
    assert row["realtimeStreams"] == '{"ai"}'


async def test_a_run_that_is_over_takes_nothing(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    await ended(live)
    assert (await live.http.put(f"/realtime/v1/streams/{run_id}/self/ai")).status_code == 400
    assert (await write(live, run_id, "x")).status_code == 400
    sent = await live.http.post(f"/realtime/v1/streams/{run_id}/input/approval", json={"data": 1})
    assert (sent.status_code, sent.json()["ok"]) == (400, False)
    assert (await live.http.post("/realtime/v1/streams/run_none/input/approval", json={"data": 1})).status_code == 404


async def test_bad_chunks_are_refused_and_the_good_ones_before_them_kept(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    path = f"/realtime/v1/streams/{run_id}/self/ai"
    assert (await live.http.post(path, content=b"1\n{nonsense\n")).status_code == 400
    assert (await live.http.post(path, content=b'"' + b"x" * (limits.MAX_CHUNK_BYTES + 1))).status_code == 413
    assert (await live.http.post(path, content=b'"\\ud800"\n')).status_code == 400
    assert (await live.http.post(f"{path}/append", content=b"x" * (limits.MAX_APPEND_BYTES + 1))).status_code == 413
    assert (await live.http.post(f"{path}/append", content=b"\xff")).status_code == 400
    assert (await live.http.post(f"/realtime/v1/streams/{run_id}/elsewhere/ai", content=b"1")).status_code == 400
    assert (await live.http.put(f"/realtime/v1/streams/{run_id}/self/{'k' * 257}")).status_code == 400
    assert (
        await live.http.post(f"/realtime/v1/streams/{run_id}/input/a", content=b'{"data":"' + b"x" * 1_048_577 + b'"}')
    ).status_code == 413
    await write(live, run_id, "good")
    await ended(live)
    assert (await data(live, f"/realtime/v1/streams/{run_id}/ai"))[-1] == "good"


async def test_a_stream_and_a_run_have_their_limits(live: Live) -> None:
    run_id = await live.trigger()
    await write(live, run_id, "x")
    await live.engine.write(lambda tx: tx.execute("UPDATE streams SET bytes = :n", n=limits.MAX_STREAM_BYTES))
    assert (await write(live, run_id, "y")).status_code == 413
    for i in range(limits.MAX_STREAMS - 1):
        await live.engine.call(engine.append, AppendStream(env_id=ENV, run_id=run_id, key=f"k{i}"))
    assert (await write(live, run_id, "y", key="one-too-many")).status_code == 422


async def test_a_large_chunk_and_many_small_ones_come_back_whole(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    large = "x" * (limits.MAX_CHUNK_BYTES - 10)
    await write(live, run_id, large, *range(5_000), large)
    await ended(live)
    assert await data(live, f"/realtime/v1/streams/{run_id}/ai") == [large, *range(5_000), large]


async def test_streams_are_kept_for_a_while_after_their_run(live: Live) -> None:
    await live.work("t")
    run_id, unfinished = await live.trigger(), await live.trigger()
    await write(live, run_id, "x")
    await write(live, unfinished, "x")
    [claimed] = await live.claim(1)
    await live.end(claimed)
    later = live.engine.clock.now() + 1_000
    assert await live.engine.write(lambda tx: streams.prune(tx, later, 100)) == 1
    assert await live.engine.read(lambda tx: streams.read(tx, (run_id, "ai"), 0)) == []
    assert len(await live.engine.read(lambda tx: streams.read(tx, (unfinished, "ai"), 0))) == 1


async def test_public_tokens_read_and_send_by_their_scopes(live: Live) -> None:
    run_id, other = await live.trigger(), await live.trigger()
    made = await live.http.post("/api/v1/auth/public-tokens", json={"scopes": [f"read:runs:{run_id}", f"write:inputStreams:{run_id}"]})
    headers = {"authorization": f"Bearer {made.json()['token']}", "origin": "http://example.com"}
    assert (await live.http.post(f"/realtime/v1/streams/{run_id}/input/a", json={"data": 1}, headers=headers)).json() == {"ok": True}
    assert (await live.http.post(f"/realtime/v1/streams/{other}/input/a", json={"data": 1}, headers=headers)).status_code == 403
    assert (await live.http.get(f"/realtime/v1/streams/{other}/ai", headers=headers)).status_code == 403
    assert (await live.http.post(f"/realtime/v1/streams/{run_id}/self/ai", content=b"1", headers=headers)).status_code == 401
    async with live.events(f"/realtime/v1/streams/{run_id}/ai", **headers) as stream:
        assert stream.response.headers["access-control-allow-origin"] == "*"
        assert "x-stream-version" in stream.response.headers["access-control-expose-headers"]
    answer = await live.http.options(f"/realtime/v1/streams/{run_id}/input/a", headers={"access-control-request-headers": "authorization"})
    assert answer.status_code == 204


async def test_our_own_poll_gives_records_as_json(live: Live) -> None:
    await live.work("t")
    run_id = await live.trigger()
    path = f"/api/outlast/v1/runs/{run_id}/streams/ai"
    held = asyncio.ensure_future(live.http.get(path, params={"start": 0, "wait": 30}))
    await live.engine.call(engine.append, AppendStream(env_id=ENV, run_id=run_id, key="ai", parts=[Part(body='{"n":1}')]))
    async with asyncio.timeout(PATIENCE):
        found = (await held).json()
    assert ([r["data"] for r in found["records"]], found["next"], found["done"]) == ([{"n": 1}], 1, False)
    await ended(live)
    assert (await live.http.get(path, params={"start": 1, "wait": 30})).json() == {"records": [], "next": 1, "done": True}
    assert (await live.http.get(path, params={"start": "x"})).status_code == 400


async def test_a_reader_on_another_server_sees_it_at_once(postgres: Address, tmp_path: Path) -> None:
    async with open_live(postgres, tmp_path / "a") as one, open_live(postgres, tmp_path / "b") as two:
        run_id = await one.trigger()
        two.http.headers["authorization"] = f"Bearer {one.key}"
        async with two.events(f"/realtime/v1/streams/{run_id}/ai") as stream:
            await write(one, run_id, "far away")
            event = await stream.next()
            assert event is not None
            assert bodies(event) == ["far away"]


async def test_a_token_is_completed_by_the_next_value_sent_to_a_run(live: Live) -> None:
    run_id = await live.trigger()
    path, ask = f"/api/v1/runs/{run_id}/input-streams/wait", live.http.post

    async def waiting(**body: Any) -> str:
        answer = await ask(path, json={"streamId": "approval", **body})
        assert answer.status_code == 200, answer.text
        return answer.json()["waitpointId"]

    async def output(token: str) -> Any:
        return (await live.http.get(f"/api/v1/waitpoints/tokens/{token}")).json().get("output")

    async def send(value: Any) -> None:
        assert (await ask(f"/realtime/v1/streams/{run_id}/input/approval", json={"data": value})).json() == {"ok": True}

    first, second, later = await waiting(), await waiting(tags=["x"]), await waiting(lastSeqNum=0, idempotencyKey="later")
    assert await waiting(idempotencyKey="later") == later
    await send({"n": 0})
    assert [await output(token) for token in (first, second, later)] == ['{"n":0}', '{"n":0}', None]
    await send(1)
    assert await output(later) == "1"
    assert [await output(await waiting()), await output(await waiting(lastSeqNum=0))] == ['{"n":0}', "1"]  # they are there already
    for wrong, status in (({"streamId": ""}, 400), ({"lastSeqNum": -2}, 400), ({"lastSeqNum": "1"}, 400), ({"timeout": "never"}, 400)):
        assert (await ask(path, json={"streamId": "approval", **wrong})).status_code == status, wrong
    assert (await ask("/api/v1/runs/run_none/input-streams/wait", json={"streamId": "a"})).status_code == 404
    await live.http.post(f"/api/v2/runs/{run_id}/cancel")
    assert (await ask(path, json={"streamId": "approval"})).status_code == 422
