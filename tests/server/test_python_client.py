"""The Python client against a real server: tokens, large values, deployments, keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from outlast.client.client import Client
from outlast.errors import NotFound, PermissionDenied, Unprocessable
from outlast.idempotency import idempotency_key
from tests.server.conftest import Server, on_sqlite


def connected(server: Server, key: str | None = None) -> Client:
    transport = httpx.ASGITransport(app=server.runtime.app, raise_app_exceptions=False)
    return Client(api_url="http://test", secret_key=key or server.keys["prod"], transport=transport)


@on_sqlite
async def test_public_tokens_are_made_and_used(server: Server) -> None:
    async with connected(server) as client:
        mine, other = await client.tasks.trigger("t", 1, tags=["mine"]), await client.tasks.trigger("t", 2)
        token = await client.auth.create_public_token(
            scopes={"read": {"tags": "mine"}}, expiration_time=datetime.now(UTC) + timedelta(hours=2)
        )
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        assert claims["scopes"] == ["read:tags:mine"] and 7_100 < claims["exp"] - claims["iat"] <= 7_200
        async with connected(server, token) as browser:
            assert (await browser.runs.retrieve(mine.id)).status == "QUEUED"
            with pytest.raises(PermissionDenied):
                await browser.runs.retrieve(other.id)
        once = await client.auth.create_trigger_public_token("t")
        async with connected(server, once) as browser:
            await browser.tasks.trigger("t", 1)
            with pytest.raises(Unprocessable, match="already been used"):
                await browser.tasks.trigger("t", 1)


@on_sqlite
async def test_large_values_are_fetched_when_a_run_is_retrieved(server: Server) -> None:
    async with connected(server) as client:
        handle = await client.tasks.trigger("t", {"text": "x" * 300_000, "at": datetime(2026, 1, 1, tzinfo=UTC)})
        run = await client.runs.retrieve(handle)
        assert len(run.payload["text"]) == 300_000 and run.payload["at"] == "2026-01-01T00:00:00.000Z"


async def test_deployments_and_keys(server: Server) -> None:
    async with connected(server) as client:
        current = await client.deployments.retrieve_current()
        assert [d.version async for d in client.deployments.list(status="DEPLOYED", period="1h")] == [current.version]
        assert await client.deployments.retrieve(current.version) == current
        for key in ("raw", ["a", "b"], idempotency_key("made", scope="global")):
            first = await client.tasks.trigger("t", 1, idempotency_key=key)
            assert (await client.tasks.trigger("t", 1, idempotency_key=key)).id == first.id
            await client.idempotency.reset("t", key)
            assert (await client.tasks.trigger("t", 1, idempotency_key=key)).id != first.id
        with pytest.raises(NotFound):
            await client.idempotency.reset("t", "never used")
