"""Hostile connections, byte by byte, against a real listening server. Rows are of the security page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from outlast.cli import serving
from outlast.cli.protocol import Protocol
from outlast.model.messages import MAX_FRAME_MESSAGES, Drain
from outlast.server.runtime import Options, Runtime


class Impatient(Protocol):
    head_seconds = 0.3


class Raw:
    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.head = f"host: x\r\nauthorization: Bearer {key}\r\n"

    async def send(self, *parts: bytes, end: bool = False) -> bytes:
        """Everything the server says until it closes, or has answered once."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            if end:
                writer.write_eof()
            async with asyncio.timeout(30):
                return await self._answer(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            return b"closed"
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:")), 0)
        return head + await reader.readexactly(length)

    async def lives(self) -> bool:
        return b"200 OK" in await self.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")

    def trigger(self, *headers: str) -> bytes:
        lines = "".join(f"{header}\r\n" for header in headers)
        return f"POST /api/v1/tasks/t/trigger HTTP/1.1\r\n{self.head}content-type: application/json\r\n{lines}\r\n".encode()


@pytest_asyncio.fixture
async def raw(tmp_path: Path) -> AsyncIterator[Raw]:
    runtime = Runtime(Options(data=tmp_path))
    await runtime.start()
    listening = serving.bind("127.0.0.1", 0)
    async with serving.serving(serving.make(runtime, Impatient), listening):
        yield Raw(listening.getsockname()[1], runtime.new_key("prod", "test"))
    await runtime.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_row_27_who_never_ends_a_request_is_let_go(raw: Raw) -> None:
    for parts in ((b"",), (b"GET / HT",), (b"GET / HTTP/1.1\r\nhost: x\r\nx-a: ", b"b")):
        assert status(await raw.send(*parts)) == 408, parts
    assert await raw.lives()


@pytest.mark.full
async def test_row_27_a_body_that_trickles_is_late_after_half_a_minute(raw: Raw) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", raw.port)

    async def trickle() -> None:
        writer.write(raw.trigger("content-length: 1000"))
        while True:
            writer.write(b"[")
            await writer.drain()
            await asyncio.sleep(0.5)

    dripping = asyncio.create_task(trickle())
    async with asyncio.timeout(60):
        assert status(await reader.readline()) == 408
    dripping.cancel()
    writer.close()


class Crowded(Protocol):
    max_silent = 3


async def test_row_27_an_address_that_says_nothing_often_gets_no_more_connections(tmp_path: Path) -> None:
    runtime = Runtime(Options(data=tmp_path))
    await runtime.start()
    listening = serving.bind("127.0.0.1", 0)
    async with serving.serving(serving.make(runtime, Crowded), listening):
        raw = Raw(listening.getsockname()[1], "")
        assert await raw.lives()
        silent = [await asyncio.open_connection("127.0.0.1", raw.port) for _ in range(3)]
        assert status(await raw.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")) == 503
        silent[0][1].write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")  # it speaks, and stays: its place is free
        assert b"200 OK" in await silent[0][0].readline()
        assert await raw.lives()
        for _, writer in silent:
            writer.close()
    await runtime.close()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (msgspec.msgpack.encode([Drain()] * (MAX_FRAME_MESSAGES + 1)), 1009),
        (b"\x91" * 100_000 + b"\x00", 1007),  # row 24, in msgpack
        (b"\xc1", 1007),
        (msgspec.msgpack.encode([["explode"]]), 1007),
        (msgspec.msgpack.encode([["done", 1, "run_1", 2**62, 1, "perhaps"]]), 1007),
        ("[]", 1000),  # a text: it is let go
    ],
)
async def test_row_63_frames_of_a_worker_that_are_none(raw: Raw, frame: bytes | str, code: int) -> None:
    headers = dict(line.split(": ") for line in raw.head.splitlines())
    del headers["host"]
    async with connect(f"ws://127.0.0.1:{raw.port}/api/outlast/v1/channel", additional_headers=headers) as socket:
        await socket.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == code
    assert await raw.lives()


async def test_row_84_heads_have_limits(raw: Raw) -> None:
    many = "".join(f"x-{n}: 1\r\n" for n in range(1_000)).encode()
    for head in (many + b"\r\n", b"x-long: " + b"a" * 70_000 + b"\r\n\r\n", b"x-endless: " + b"a" * 200_000):
        assert status(await raw.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + head)) == 431
    assert status(await raw.send(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")) in (400, 431)
    assert await raw.lives()


async def test_row_84_what_is_no_http_of_today_is_refused(raw: Raw) -> None:
    smuggled = raw.trigger("content-length: 2", "transfer-encoding: chunked") + b"0\r\n\r\n"
    for request in (smuggled, b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx-a: b\nc\r\n d\x00\r\n\r\n", b"\x16\x03\x01\x02\x00"):
        answer = await raw.send(request)
        assert answer == b"closed" or status(answer) == 400, request[:40]
    assert await raw.lives()


async def test_row_21_unknown_methods_are_405(raw: Raw) -> None:
    for method in ("TRACE", "PATCH", "PROPFIND"):
        assert status(await raw.send(f"{method} /api/v1/runs HTTP/1.1\r\n{raw.head}\r\n".encode())) == 405
    overridden = f"GET /api/v1/runs HTTP/1.1\r\n{raw.head}x-http-method-override: DELETE\r\n\r\n"
    assert status(await raw.send(overridden.encode())) == 200  # it is a GET, whatever it says


async def test_row_25_bodies_without_end_and_lengths_that_lie(raw: Raw) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    endless = await raw.send(raw.trigger("transfer-encoding: chunked"), *[chunk] * 120)
    assert endless == b"closed" or status(endless) == 413
    assert status(await raw.send(raw.trigger(f"content-length: {10**12}"))) == 413
    cut = await raw.send(raw.trigger("content-length: 100"), b'{"payload":1}', end=True)
    assert cut == b"closed" or status(cut) == 400
    longer = await raw.send(raw.trigger("content-length: 2"), b'{}{"payload":1}')
    assert status(longer) in (200, 400)  # what is behind the length is another request, and no HTTP
    assert await raw.lives()
    listed = await raw.send(f"GET /api/v1/runs HTTP/1.1\r\n{raw.head}\r\n".encode())
    assert len(json.loads(listed.split(b"\r\n\r\n", 1)[1])["data"]) <= 1


async def test_row_26_compressed_bodies_are_refused(raw: Raw) -> None:
    for encoding in ("gzip", "br", "deflate"):
        assert status(await raw.send(raw.trigger(f"content-encoding: {encoding}", "content-length: 2"), b"{}")) == 415


async def test_row_51_a_line_without_end_is_413(raw: Raw) -> None:
    created = await raw.send(f'POST /api/v3/batches HTTP/1.1\r\n{raw.head}content-length: 14\r\n\r\n{{"runCount":1}}'.encode())
    batch = json.loads(created.split(b"\r\n\r\n", 1)[1])["id"]
    head = (
        f"POST /api/v3/batches/{batch}/items HTTP/1.1\r\n{raw.head}content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    answer = await raw.send(head.encode(), *[b"10000\r\n" + b"x" * 65_536 + b"\r\n"] * 130)
    assert answer == b"closed" or status(answer) == 413
    assert await raw.lives()


async def test_row_20_a_wrong_host_is_not_believed_when_the_address_is_known(tmp_path: Path) -> None:
    runtime = Runtime(Options(data=tmp_path, public_url="https://tasks.example/"))
    await runtime.start()
    listening = serving.bind("127.0.0.1", 0)
    async with serving.serving(serving.make(runtime), listening):
        raw = Raw(listening.getsockname()[1], runtime.new_key("prod", "test"))
        head = raw.head.replace("host: x", "host: evil.example")
        answer = await raw.send(f"POST /api/v1/waitpoints/tokens HTTP/1.1\r\n{head}content-length: 2\r\n\r\n{{}}".encode())
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["url"].startswith("https://tasks.example/api/v1/waitpoints/")
    await runtime.close()
