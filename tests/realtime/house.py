"""A real server on a real socket, and a worker's side played by hand, so that a test says when each change is committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from outlast.cli import serving
from outlast.engine.clock import SystemClock
from outlast.server.realtime.feed import Feed
from outlast.server.runtime import Options, Runtime
from tests.databases import Address
from tests.engine.house import House

ENV = 3  # prod
PATIENCE = 30.0  # seconds; a loaded machine is slow, a broken one never answers


class Live(House):
    """The verbs of an engine's house over a whole server."""

    def __init__(self, runtime: Runtime, url: str) -> None:
        super().__init__(runtime.engine, SystemClock(), ENV)  # type: ignore[arg-type] - the tests here never move the clock
        self.runtime = runtime
        self.url = url
        self.key = runtime.new_key("prod", "test")
        self.foreign_key = runtime.new_key("dev", "test")
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE, headers={"authorization": f"Bearer {self.key}"}, trust_env=False)

    @property
    def feed(self) -> Feed:
        return self.runtime.app.state.context.feed

    def events(self, path: str, **headers: str) -> Events:
        return Events(self.http, path, headers)


class Events:
    """Server-sent events, read one at a time."""

    def __init__(self, http: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
        self._stream = http.stream("GET", path, headers={"accept": "text/event-stream", **headers})
        self._lines: AsyncIterator[str] = None  # type: ignore[assignment]
        self.response: httpx.Response = None  # type: ignore[assignment]

    async def __aenter__(self) -> Events:
        self.response = await self._stream.__aenter__()
        self._lines = self.response.aiter_lines()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stream.__aexit__(*error)

    async def next(self) -> dict[str, Any] | None:
        """{id, event, data} of the next one; None at the end. Pings are passed over."""
        found: dict[str, Any] = {}
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if not line and "data" in found:
                    return found
                if name in ("id", "event"):
                    found[name] = value
                elif name == "data":
                    found["data"] = msgspec.json.decode(value)
        return None

    async def all(self) -> list[dict[str, Any]]:
        every: list[dict[str, Any]] = []
        while (found := await self.next()) is not None:
            every.append(found)
        return every


@asynccontextmanager
async def open_live(address: Address, folder: Path) -> AsyncIterator[Live]:
    listening = serving.bind("127.0.0.1", 0)
    runtime = Runtime(Options(database=address.url, schema=address.schema, data=folder))
    await runtime.start()
    try:
        async with serving.serving(serving.make(runtime), listening):
            live = Live(runtime, f"http://127.0.0.1:{listening.getsockname()[1]}")
            try:
                yield live
            finally:
                await live.http.aclose()
    finally:
        await runtime.close()
