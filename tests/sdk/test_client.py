"""How requests are sent: headers, tries, errors, and where to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from outlast import Client, errors, runs, sync, tasks
from outlast.client import address
from outlast.client.address import Address
from outlast.client.connection import CONNECTIONS, Connection
from outlast.client.requests import run_result, trigger
from tests.sdk.house import RUN, Wire, inside_a_task


async def test_every_request_carries_the_headers_of_the_wire(wire: Wire) -> None:
    await tasks.trigger("t", 1)
    headers = wire.asked[0].headers
    assert headers["authorization"] == "Bearer tr_dev_sk_x"
    assert headers["content-type"] == "application/json"
    assert headers["x-trigger-api-version"] == "2025-07-16"
    assert headers["x-trigger-source"] == "sdk"
    assert headers["x-trigger-realtime-streams-version"] == "v2"
    assert headers["trigger-version"]
    assert "x-trigger-worker" not in headers


async def test_inside_a_task_the_server_is_told_so(wire: Wire) -> None:
    with inside_a_task():
        await tasks.trigger("t", 1)
    assert (wire.asked[0].headers["x-trigger-worker"], wire.asked[0].headers["x-trigger-engine-version"]) == ("true", "V2")


async def test_all_tries_of_a_call_share_a_request_id_and_calls_do_not(wire: Wire) -> None:
    wire.script = [httpx.Response(503), httpx.ConnectError("refused")]
    await tasks.trigger("t")
    await tasks.trigger("t")
    ids = [request.headers["x-trigger-request-idempotency-key"] for request in wire.asked]
    assert (len(set(ids[:3])), len(set(ids))) == (1, 2)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_what_may_pass_is_tried_five_times(wire: Wire, status: int) -> None:
    wire.default = lambda _: httpx.Response(status, json={"error": "busy"})
    with pytest.raises(errors.ApiError, match=f"{status} busy") as raised:
        await tasks.trigger("t")
    assert (len(wire.asked), raised.value.status, raised.value.body) == (5, status, {"error": "busy"})
    assert all(short < long * 2 for short, long in zip(wire.slept, [1, 1.6, 2.56, 4.1], strict=True))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest), (401, errors.AuthenticationFailed), (403, errors.PermissionDenied),
        (404, errors.NotFound), (422, errors.Unprocessable), (418, errors.ApiError),
    ],
)  # fmt: skip
async def test_a_refusal_is_final_and_has_its_own_error(wire: Wire, status: int, kind: type[errors.ApiError]) -> None:
    wire.default = lambda _: httpx.Response(status, json={"error": {"message": "no"}}, headers={"x-request": "1"})
    with pytest.raises(kind, match=f"{status} no") as raised:
        await runs.retrieve("run_1")
    assert (len(wire.asked), raised.value.headers["x-request"]) == (1, "1")


async def test_the_servers_word_overrides_the_status(wire: Wire) -> None:
    wire.script = [httpx.Response(404, headers={"x-should-retry": "true"})]
    await tasks.trigger("t")
    wire.script = [httpx.Response(500, headers={"x-should-retry": "false"})]
    with pytest.raises(errors.ServerError):
        await tasks.trigger("t")
    assert len(wire.asked) == 3


async def test_a_rate_limit_is_waited_out(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    wire.script = [httpx.Response(429, headers={"x-ratelimit-reset": str(round((time.time() + 100) * 1_000))})]
    await tasks.trigger("t")
    assert 98 < wire.slept[0] < 102
    assert "going on in" in caplog.text


async def test_no_answer_at_all_names_the_address(wire: Wire) -> None:
    wire.default = lambda _: httpx.ConnectError("refused")
    with pytest.raises(errors.ConnectionFailed, match=r"http://server after 5 tries: refused"):
        await tasks.trigger("t")


@pytest.mark.parametrize("answer", ["<html>", "{}", "[]", "null"])
async def test_a_page_that_is_no_outlast_server_is_an_api_error(wire: Wire, answer: str) -> None:
    wire.default = lambda _: httpx.Response(200, text=answer)
    with pytest.raises(errors.ApiError, match="is the address right"):
        await tasks.trigger("t")


def test_blocking_calls_are_sent_and_tried_alike(wire: Wire) -> None:
    wire.script = [httpx.Response(503), httpx.ConnectError("refused")]
    assert sync.tasks.trigger("t").id == "run_1"
    assert (len(wire.asked), len(wire.slept)) == (3, 2)


def test_no_name_of_the_tree_stands_outside_it() -> None:
    found = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert all(issubclass(kind, errors.OutlastError) for kind in found)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in found)


# ---- several servers, several loops


async def test_a_client_talks_to_its_own_server_only(wire: Wire) -> None:
    other = Wire()
    other.default = lambda request: httpx.Response(
        200, json=RUN if "v3" in request.url.path else {"id": "batch_1", "data": [RUN], "pagination": {}}
    )

    async def source() -> AsyncIterator[int]:
        yield 1

    async with Client(api_url="http://other", secret_key="k", transport=httpx.MockTransport(other.answer)) as client:
        await client.runs.retrieve("run_1")
        await client.tasks.trigger("t", 1)
        await client.tasks.batch_trigger("t", source())
        assert [run.id async for run in client.runs.list()] == ["run_1"]
    assert ({str(request.url.host) for request in other.asked}, len(other.asked), wire.asked) == ({"other"}, 4, [])


def test_a_blocking_client_talks_to_its_own_server_only(wire: Wire) -> None:
    other = Wire()
    with sync.Client(api_url="http://other", secret_key="k", transport=httpx.MockTransport(other.answer)) as client:
        assert client.tasks.trigger("t", 1).id == "run_1"
    assert (len(other.asked), wire.asked) == (1, [])


@pytest.fixture
def socket_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "14")
            self.end_headers()
            self.wfile.write(b'{"id":"run_1"}')

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_loop_closes_its_sockets_when_it_ends(socket_server: str) -> None:
    connection = Connection(Address(socket_server, "k"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert asyncio.run(connection.send(trigger("t", {}))).id == "run_1"
        gc.collect()
    assert connection._clients == {}  # pyright: ignore[reportPrivateUsage]


class SlowServer:
    """It answers anything at once but long polls, which it answers together, when it is told to."""

    def __init__(self, polls: int) -> None:
        self.polls = polls
        self.all_polls, self.results = asyncio.Event(), asyncio.Event()
        self.quick = set[asyncio.Task[None] | None]()  # conversations without a long poll
        self.talks = set[asyncio.Task[None] | None]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.talks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", head)
                await reader.readexactly(int(length.group(1)) if length else 0)
                body = await self._result() if b"wait=60" in head else b'{"id":"run_1"}'
                if b"wait=60" not in head:
                    self.quick.add(asyncio.current_task())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()
        await writer.wait_closed()

    async def _result(self) -> bytes:
        self.polls -= 1
        if self.polls == 0:
            self.all_polls.set()
        await self.results.wait()
        return b'{"id":"run_1","done":true,"ok":true}'


async def test_many_calls_take_turns_and_who_waits_for_a_result_takes_none() -> None:
    slow = SlowServer(polls=120)
    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    connection = Connection(Address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "k"))
    polls = [asyncio.ensure_future(connection.send(run_result("run_1", 60))) for _ in range(slow.polls)]
    async with asyncio.timeout(30):
        handles = await asyncio.gather(*[connection.send(trigger("t", {})) for _ in range(200)])
        await slow.all_polls.wait()
    assert {handle.id for handle in handles} == {"run_1"} and 1 < len(slow.quick) <= CONNECTIONS
    slow.results.set()
    assert {answer.ok for answer in await asyncio.gather(*polls)} == {True}
    await connection.close()
    server.close()
    await asyncio.gather(*[talk for talk in slow.talks if talk is not None])


# ---- who am I talking to

NAMES = ("OUTLAST_API_URL", "OUTLAST_SECRET_KEY", "TRIGGER_API_URL", "TRIGGER_SECRET_KEY", "TRIGGER_ACCESS_TOKEN", "OUTLAST_DATA")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return tmp_path


def note(folder: Path, text: str = json.dumps({"url": "http://dev/", "key": "dev", "pid": 1})) -> None:
    (folder / ".outlast").mkdir()
    (folder / ".outlast" / "dev.json").write_text(text)


def test_arguments_win_over_outlast_over_trigger_over_the_dev_note(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(project)
    assert address.find() == Address("http://dev", "dev")
    monkeypatch.setenv("TRIGGER_API_URL", "http://trigger")
    monkeypatch.setenv("TRIGGER_SECRET_KEY", "trigger")
    assert address.find() == Address("http://trigger", "trigger")
    monkeypatch.setenv("OUTLAST_API_URL", "http://outlast/")
    monkeypatch.setenv("OUTLAST_SECRET_KEY", "outlast")
    assert address.find() == Address("http://outlast", "outlast")
    assert address.find("http://argument", "argument") == Address("http://argument", "argument")


def test_the_key_of_the_dev_note_is_not_sent_to_another_server(project: Path) -> None:
    note(project)
    with pytest.raises(errors.ConfigurationError, match="OUTLAST_SECRET_KEY"):
        address.find("http://elsewhere")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1, "key": 2}'])
def test_a_spoilt_dev_note_is_as_none(project: Path, text: str) -> None:
    note(project, text)
    with pytest.raises(errors.ConfigurationError, match="outlast dev"):
        address.find()


@pytest.mark.parametrize(
    ("url", "key"), [("localhost:3040", "k"), ("ftp://x", "k"), ("http://x", "k\n"), ("http://x", "k k"), ("http://x", "ké")]
)
def test_an_address_that_cannot_be_is_refused_at_once(project: Path, url: str, key: str) -> None:
    with pytest.raises(errors.ConfigurationError):
        address.find(url, key)
