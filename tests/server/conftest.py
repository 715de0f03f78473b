"""A real server in this process, asked over ASGI, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from outlast.engine import sessions
from outlast.model.manifest import Manifest, QueueDefinition, TaskDefinition
from outlast.model.requests import OpenSession
from outlast.server.runtime import Options, Runtime
from tests.databases import Address, fresh_schema

# for what the database has no say in: a fresh PostgreSQL schema costs a second
on_sqlite = pytest.mark.parametrize("address", ["sqlite"], indirect=True)


class Server:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.keys = {slug: runtime.new_key(slug, "test") for slug in ("dev", "prod")}
        transport = httpx.ASGITransport(app=runtime.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def ask(self, method: str, path: str, *, env: str | None = "prod", key: str | None = None, **kwargs: Any) -> httpx.Response:
        headers = dict(kwargs.pop("headers", {}))
        found = key if key is not None else self.keys[env] if env else None
        if found is not None:
            headers.setdefault("authorization", f"Bearer {found}")
        return await self.http.request(method, path, headers=headers, **kwargs)

    async def trigger(
        self, task: str = "t", *, env: str = "prod", payload: Any = None, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        body = {"payload": payload, "options": options}
        return await self.ask("POST", f"/api/v1/tasks/{task}/trigger", env=env, json=body, headers=headers or {})


@pytest_asyncio.fixture
async def server(address: Address, tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(address, tmp_path) as found:
        yield found


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    if request.param == "sqlite":
        yield Address(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'outlast.db'}")
        return
    with fresh_schema(request.getfixturevalue("postgres_url")) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_address: Address, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One server for all tests of a module, which must be marked `asyncio(loop_scope="module")`: count on nothing that others leave."""
    async with serving(shared_address, tmp_path_factory.mktemp("data")) as found:
        yield found


@asynccontextmanager
async def serving(address: Address, folder: Path) -> AsyncIterator[Server]:
    runtime = Runtime(Options(database=address.url, schema=address.schema, data=folder))
    await runtime.start()
    manifest = Manifest(
        python="3.11",
        content_hash="1",
        tasks=[TaskDefinition(id="t"), TaskDefinition(id="u.v"), TaskDefinition(id="cron", scheduled=True)],
        queues=[QueueDefinition(name="a/b c".replace(" ", "_"), concurrency_limit=5)],
    )
    await runtime.engine.call(sessions.open_session, OpenSession(env_id=3, server_id="s", worker="w", boot_id="b", manifest=manifest))
    found = Server(runtime)
    yield found
    await found.http.aclose()
    await runtime.close()
