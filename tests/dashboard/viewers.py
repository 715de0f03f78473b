"""People who look, without their browsers: each holds a page's stream and fetches its live block when the stream says so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

HEARD = b"event: changed"
LENGTH, DRAWN, TAG = re.compile(rb"content-length: (\d+)"), re.compile(rb"draw;dur=([\d.]+)"), re.compile(rb"etag: (\S+)")

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Block:
    """What came: after how many ms, whether it is other than before, and the mark of its drawing."""

    ms: float
    is_new: bool
    drawing: bytes


class Viewer:
    """One open page."""

    def __init__(
        self, path: str, headers: str, stream: asyncio.StreamReader, ask: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> None:
        self._path, self._headers, self._stream = path, headers, stream
        self._reader, self._writer = ask
        self._known = ""

    async def look(self) -> Block:
        """Wait for the next change, and fetch the block."""
        await self._stream.readuntil(HEARD)
        return await self.fetch()

    async def fetch(self) -> Block:
        loop = asyncio.get_running_loop()
        began, known = loop.time(), f"if-none-match: {self._known}\r\n" if self._known else ""
        self._writer.write(f"GET {self._path} HTTP/1.1\r\n{self._headers}x-fragment: live\r\n{known}\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head[9:12] in (b"200", b"304"), head
        if length := LENGTH.search(head):
            await self._reader.readexactly(int(length[1]))
        drawn, tag = DRAWN.search(head), TAG.search(head)
        assert drawn is not None and tag is not None
        self._known = tag[1].decode()
        return Block((loop.time() - began) * 1_000, head[9:12] == b"200", drawn[1])


@asynccontextmanager
async def looking(url: str, key: str, paths: Sequence[str]) -> AsyncIterator[list[Viewer]]:
    """A viewer for each path; all hear of changes from here on."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        cookie = (await http.post("/login", data={"key": key})).headers["set-cookie"].partition(";")[0]
    host = url.partition("//")[2]
    headers, opened, viewers = (
        f"host: {host}\r\ncookie: {cookie}\r\naccept-encoding: gzip\r\n",
        list[asyncio.StreamWriter](),
        list[Viewer](),
    )

    async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*host.split(":"))
        opened.append(writer)
        return reader, writer

    try:
        for path in paths:
            stream, writer = await connected()
            topic = path.partition("?")[0].strip("/") or "home"
            writer.write(f"GET /ui/events?topics={topic} HTTP/1.1\r\n{headers}\r\n".encode())
            await stream.readuntil(b"event: hello")
            viewers.append(Viewer(path, headers, stream, await connected()))
        yield viewers
    finally:
        for writer in opened:
            writer.close()
