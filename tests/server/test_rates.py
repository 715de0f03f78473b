"""Rate limits: how many calls, what is said, and when they are allowed again."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from outlast.server.problem import Problem
from outlast.server.rates import Limiter, Rate, parse
from outlast.server.runtime import Options, Runtime
from tests.server.conftest import Server


def test_a_bucket_empties_and_fills_at_a_steady_pace() -> None:
    limiter, now = Limiter(Rate(3, 2, 10)), 1_000_000
    assert [limiter.take("a", now)["x-ratelimit-remaining"] for _ in range(3)] == ["2", "1", "0"]
    assert limiter.take("b", now)["x-ratelimit-remaining"] == "2"
    with pytest.raises(Problem) as refused:
        limiter.take("a", now)
    assert (refused.value.headers["x-ratelimit-reset"], refused.value.headers["retry-after"]) == (str(now + 5_000), "5")
    with pytest.raises(Problem):
        limiter.take("a", now + 4_999)
    assert limiter.take("a", now + 5_000)["x-ratelimit-remaining"] == "0"
    assert limiter.take("a", now + 60_000)["x-ratelimit-remaining"] == "2"
    with pytest.raises(Problem, match="more than ever allowed"):
        limiter.take("c", now, 4)
    assert limiter.take("c", now, 3)["x-ratelimit-remaining"] == "0"


def test_rates_are_written_as_people_say_them() -> None:
    assert (parse("off"), parse("60/1m"), parse("750+250/10s")) == (None, Rate(60, 60, 60), Rate(750, 250, 10))
    for wrong in ("", "0/1s", "5", "5/0s", "5/1d", "-1/1s", "five/1s"):
        with pytest.raises(ValueError, match="no rate"):
            parse(wrong)


async def test_a_limited_server_says_so_as_the_official_client_understands_it(tmp_path: Path) -> None:
    options = Options(data=tmp_path, key_rate=Rate(3, 1, 60), token_rate=Rate(1, 1, 60), batch_rate=Rate(5, 5, 60))
    runtime = Runtime(options)
    await runtime.start()
    server = Server(runtime)
    made = await server.trigger()
    assert (made.status_code, made.headers["x-ratelimit-limit"], made.headers["x-ratelimit-remaining"]) == (200, "3", "2")
    batches = [await server.ask("POST", "/api/v3/batches", json={"runCount": 3}) for _ in range(2)]
    assert [answer.status_code for answer in batches] == [202, 429]
    assert "OUTLAST_BATCH_RATE" in batches[1].json()["error"]
    assert batches[1].headers["x-ratelimit-limit"] == "5"  # of this limit and not of the key's, or clients would come back too early
    assert int(batches[1].headers["x-ratelimit-reset"]) > time.time() * 1_000 + 5_000
    never = await server.ask("POST", "/api/v3/batches", env="dev", json={"runCount": 6})
    assert (never.status_code, never.headers["x-should-retry"]) == (422, "false")
    refused = await server.trigger()
    body = refused.json()
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert time.time() * 1_000 < int(refused.headers["x-ratelimit-reset"]) == body["reset"]
    assert (body["limit"], body["remaining"], "Rate limit exceeded" in body["error"]) == (3, 0, True)
    assert "x-should-retry" not in refused.headers  # the client waits for the reset, and tries again
    own = await server.ask("GET", "/api/outlast/v1/whoami")
    assert (own.status_code, own.json()["error"]["code"]) == (429, "rate_limited")
    assert (await server.trigger(env="dev")).status_code == 200  # each key has a bucket of its own

    token, path = made.headers["x-trigger-jwt"], f"/api/v3/runs/{made.json()['id']}"
    answers: list[httpx.Response] = [await server.ask("GET", path, key=token) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    live = await server.ask("GET", f"/realtime/v1/runs/{made.json()['id']}?offset=-1", key=token)
    assert live.status_code == 200  # subscriptions poll again and again, and are limited by their number
    await server.http.aclose()
    await runtime.close()
