"""The client against a server that has only Trigger.dev's routes, as its cloud: no long poll, large values in a bucket elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from outlast import runs, task
from outlast.errors import NotFound
from tests.sdk.house import RUN, Wire


def cloud(*statuses: str) -> Callable[[httpx.Request], httpx.Response]:
    left = list(statuses)

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.url.host == "bucket":
            assert "authorization" not in request.headers  # the key is nobody's business there
            return httpx.Response(200, text='{"json":{"n":7}}', headers={"content-type": "application/super+json"})
        if path.startswith("/api/v3/runs/run_1"):
            status = left.pop(0) if len(left) > 1 else left[0]
            body = {**RUN, "status": status, "isSuccess": status == "COMPLETED"}
            return httpx.Response(200, json=body | ({"outputPresignedUrl": "https://bucket/o"} if status == "COMPLETED" else {}))
        if path.endswith("/trigger"):
            return httpx.Response(200, json={"id": "run_1"}, headers={"x-trigger-jwt": "jwt"})
        return httpx.Response(404, text="<html>Not Found</html>")

    return answer


async def test_a_run_is_polled_until_it_is_over(wire: Wire) -> None:
    wire.default = cloud("QUEUED", "EXECUTING", "COMPLETED")
    run = await runs.poll("run_1")
    assert (run.status, run.output, wire.slept) == ("COMPLETED", {"n": 7}, [1.0, 1.0])


def test_blocking_as_well(wire: Wire) -> None:
    wire.default = cloud("QUEUED", "EXPIRED")
    assert runs.poll("run_1").block().status == "EXPIRED"  # which its `isCompleted` does not say
    assert wire.slept == [1.0]


async def test_trigger_and_wait_outside_of_a_task(wire: Wire) -> None:
    wire.default = cloud("COMPLETED")

    async def remote(payload: int) -> dict[str, int]:
        return {}

    result = await task(id="remote")(remote).trigger_and_wait(1)
    assert result.output == {"n": 7}


async def test_a_run_that_is_not_there_is_not_waited_for(wire: Wire) -> None:
    wire.default = lambda _: httpx.Response(404, json={"error": "Run not found"})
    with pytest.raises(NotFound, match="Run not found"):
        await runs.poll("run_2")
    assert wire.slept == []
