"""Public tokens: what they open, and what they do not. Rows are of the security page."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import jwt

from outlast.store import catalog, keys
from tests.server.conftest import Server, on_sqlite


async def minted(server: Server, *scopes: str, env: str = "prod", **more: Any) -> str:
    answer = await server.ask("POST", "/api/v1/auth/public-tokens", env=env, json={"scopes": list(scopes), **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["token"]


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


async def forged(server: Server, *, secret: str | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token of our own, changed and signed again; with the environment's real secret unless another is given."""
    real = await minted(server, "read:runs", "trigger:tasks:t")
    claims = {**claims_of(real), **changes}
    claims = {name: value for name, value in claims.items() if value is not ...}
    found = await server.runtime.engine.read(lambda tx: catalog.environment(tx, 3))
    kept = {**jwt.get_unverified_header(real), **(header or {})}
    return jwt.encode(claims, secret or found.signing_secret, algorithm="HS256", headers=kept)


@on_sqlite
async def test_a_token_made_by_hand_lives_15_minutes_and_at_most_a_day(server: Server) -> None:
    for asked, seconds in ((None, 900), ("1h", 3_600), ("24hr", 86_400), ("30 days", 86_400), (int(time.time()) + 60, 60)):
        life: dict[str, Any] = {} if asked is None else {"expirationTime": asked}
        claims = claims_of(await minted(server, "read:runs", **life))
        assert abs(claims["exp"] - claims["iat"] - seconds) <= 2, asked
    for wrong in ("soon", "-1h", 5, True, {}):
        answer = await server.ask("POST", "/api/v1/auth/public-tokens", json={"scopes": ["read:runs"], "expirationTime": wrong})
        assert answer.status_code == 400, wrong


@on_sqlite
async def test_row_9_scopes_are_checked_when_a_token_is_made(server: Server) -> None:
    for scopes, status in (([], 400), ("read:runs", 400), ([1], 400), (["fly:runs"], 422), (["read:planets"], 422), (["read:runs:"], 422)):
        answer = await server.ask("POST", "/api/v1/auth/public-tokens", json={"scopes": scopes})
        assert answer.status_code == status, scopes
    made = await server.ask("POST", "/api/v1/auth/jwt", json={})
    assert (await server.ask("GET", "/api/v1/runs", key=made.json()["token"])).status_code == 403


@on_sqlite
async def test_only_keys_make_tokens(server: Server) -> None:
    token = await minted(server, "admin")
    for path in ("/api/v1/auth/public-tokens", "/api/v1/auth/jwt", "/api/v1/auth/jwt/claims"):
        assert (await server.ask("POST", path, key=token, json={"scopes": ["admin"]})).status_code == 401


@on_sqlite
async def test_what_a_trigger_hands_out_reads_that_run_and_no_other(server: Server) -> None:
    """Row 10."""
    made, other = await server.trigger(payload={"secret": 1}), await server.trigger()
    token, run_id = made.headers["x-trigger-jwt"], made.json()["id"]
    run = await server.ask("GET", f"/api/v3/runs/{run_id}", key=token)
    assert (run.status_code, run.json()["status"], "payload" in run.json()) == (200, "QUEUED", False)
    assert (await server.ask("GET", f"/api/v3/runs/{other.json()['id']}", key=token)).json() == {
        "error": "Unauthorized", "code": "unauthorized", "param": "access_token", "type": "authorization",
    }  # fmt: skip
    for method, path in (("GET", "/api/v1/runs"), ("POST", f"/api/v2/runs/{run_id}/cancel"), ("POST", "/api/v1/tasks/t/trigger")):
        assert (await server.ask(method, path, key=token, json={} if method == "POST" else None)).status_code == 403, path


SCOPES = {
    "read:runs": "own other list",
    "read": "own other list",
    "*:all": "own other list cancel trigger",
    "admin": "own other list cancel trigger",
    "read:tasks:t": "own list-t",
    "read:tasks": "own other list",
    "read:tags:user:1": "own",
    "read:tags:user": "",
    "write:tasks:t": "cancel",
    "trigger:tasks:t": "trigger",
    "trigger:tasks": "trigger",
    "trigger:tasks:u.v": "",
    "read:waitpoints": "",
}


@on_sqlite
async def test_a_scope_opens_what_it_names(server: Server) -> None:
    other = (await server.trigger("u.v")).json()["id"]
    for scope, opens in SCOPES.items():
        own = (await server.trigger(tags=["user:1"])).json()["id"]
        token = await minted(server, scope)
        requests = {
            "own": ("GET", f"/api/v3/runs/{own}"),
            "other": ("GET", f"/api/v3/runs/{other}"),
            "list": ("GET", "/api/v1/runs"),
            "list-t": ("GET", "/api/v1/runs?filter[taskIdentifier]=t"),
            "trigger": ("POST", "/api/v1/tasks/t/trigger"),
            "cancel": ("POST", f"/api/v2/runs/{own}/cancel"),
        }
        found = set[str]()
        for name, (method, path) in requests.items():
            answer = await server.ask(method, path, key=token, json={} if method == "POST" else None)
            assert answer.status_code in (200, 403)
            if answer.status_code == 200:
                found.add(name)
        expected = set(opens.split())
        assert found == expected | ({"list-t"} if "list" in expected else set()), scope


async def test_row_5_a_token_of_one_environment_sees_nothing_of_another(server: Server) -> None:
    run_id = (await server.trigger()).json()["id"]
    token = await minted(server, "read:runs", env="dev")
    assert (await server.ask("GET", f"/api/v3/runs/{run_id}", key=token)).status_code == 404


@on_sqlite
async def test_tokens_open_nothing_that_is_for_keys(server: Server) -> None:
    run_id = (await server.trigger()).json()["id"]
    token = await minted(server, "admin")
    for method, path in (
        ("POST", f"/api/v1/runs/{run_id}/replay"),
        ("POST", f"/api/v1/runs/{run_id}/tags"),
        ("GET", f"/api/v1/runs/{run_id}/result"),
        ("GET", "/api/v1/queues"),
        ("POST", "/api/v1/waitpoints/tokens"),
        ("POST", "/api/v2/tasks/batch"),
        ("GET", "/api/v1/whoami"),
    ):
        assert (await server.ask(method, path, key=token, json={} if method == "POST" else None)).status_code == 401, path


@on_sqlite
async def test_rows_6_and_7_other_algorithms_and_header_tricks_are_refused(server: Server) -> None:
    token = await minted(server, "read:runs")
    _, payload, _ = token.split(".")
    kid = jwt.get_unverified_header(token)["kid"]

    def b64(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    for header in ({"alg": "none", "kid": kid}, {"alg": "RS256", "kid": kid}, {"alg": "HS256"}, {"alg": "HS512", "kid": kid}):
        assert (await server.ask("GET", "/api/v1/runs", key=f"{b64(header)}.{payload}.")).status_code == 401, header
    for kid in ("../../etc/passwd", "' OR 1=1--", "key_\x00", "x" * 1_000, None, 1):
        assert (await server.ask("GET", "/api/v1/runs", key=await forged(server, header={"kid": str(kid)}))).status_code == 401, kid
    ignored = await forged(server, header={"jku": "http://127.0.0.1:1/", "x5u": "file:///etc/passwd"})
    assert (await server.ask("GET", "/api/v1/runs", key=ignored)).status_code == 200


@on_sqlite
async def test_row_8_claims_that_do_not_hold(server: Server) -> None:
    now = int(time.time())
    wrong: list[dict[str, Any]] = [
        {"exp": now - 60}, {"nbf": now + 600}, {"iat": now + 600, "exp": now + 700}, {"aud": "other"}, {"iss": "other"}, {"sub": "1"},
        {"sub": ...}, {"exp": ...}, {"iat": ...}, {"exp": now + 10 * 366 * 86_400}, {"pub": False}, {"pub": ...}, {"sub": "../1"},
        {"scopes": ["read:runs", "fly:me"]}, {"scopes": "read:runs"},
    ]  # fmt: skip
    for changes in wrong:
        answer = await server.ask("GET", "/api/v1/runs", key=await forged(server, **changes))
        assert answer.status_code == 401, changes
        assert answer.json()["error"].startswith("Public Access Token "), changes
    expired = await server.ask("GET", "/api/v1/runs", key=await forged(server, exp=now - 60))
    assert "has expired" in expired.json()["error"]
    stranger = await server.ask("GET", "/api/v1/runs", key=await forged(server, secret="x" * 43, exp=now - 60))
    assert "has expired" not in stranger.json()["error"]


@on_sqlite
async def test_row_12_what_is_no_token_is_401(server: Server) -> None:
    for token in ("a.b.c", "..", "x" * 100_000 + ".a.b", "a.b.c.d", "\x7f.a.b"):
        assert (await server.ask("GET", "/api/v1/runs", key=token)).status_code == 401


async def test_row_11_a_one_time_token_makes_one_run_also_when_used_at_once(server: Server) -> None:
    token = await minted(server, "trigger:tasks:t", oneTimeUse=True)
    refused = await server.ask("POST", "/api/v1/tasks/u.v/trigger", key=token, json={})
    assert refused.status_code == 403  # the scope first: nothing is burnt
    invalid = await server.ask("POST", "/api/v1/tasks/t/trigger", key=token, json={"options": {"lockToVersion": "20000101.1"}})
    assert invalid.status_code == 422  # no run was made: nothing is burnt
    answers = await asyncio.gather(*[server.ask("POST", "/api/v1/tasks/t/trigger", key=token, json={}) for _ in range(5)])
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422, 422]
    [used, *_] = [answer.json() for answer in answers if answer.status_code == 422]
    assert used["error"] == "Cannot trigger with a one-time use token as it has already been used."
    assert used["code"] == "token_used"
    assert len((await server.ask("GET", "/api/v1/runs")).json()["data"]) == 1


async def test_a_retry_of_the_request_that_burnt_a_token_finds_its_run(server: Server) -> None:
    token, headers = await minted(server, "trigger:tasks:t", oneTimeUse=True), {"x-trigger-request-idempotency-key": "r"}
    first = await server.ask("POST", "/api/v1/tasks/t/trigger", key=token, json={}, headers=headers)
    again = await server.ask("POST", "/api/v1/tasks/t/trigger", key=token, json={}, headers=headers)
    assert first.json() == again.json()


@on_sqlite
async def test_two_tokens_with_equal_rights_made_at_once_differ(server: Server) -> None:
    """Quirk 9 of Trigger.dev: without a jti the second would count as used."""
    tokens = [await minted(server, "trigger:tasks:t", oneTimeUse=True) for _ in range(2)]
    answers = [await server.ask("POST", "/api/v1/tasks/t/trigger", key=token, json={}) for token in tokens]
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_revoked_key_takes_its_tokens_with_it(server: Server) -> None:
    token = await minted(server, "read:runs")
    key_id = jwt.get_unverified_header(token)["kid"]
    await server.runtime.engine.write(lambda tx: keys.revoke(tx, key_id, 1))
    assert (await server.ask("GET", "/api/v1/runs", key=token)).status_code == 401


async def test_all_tokens_of_an_environment_can_be_refused_at_once(server: Server) -> None:
    token = await minted(server, "read:runs")
    await server.runtime.engine.write(lambda tx: catalog.refuse_tokens_before(tx, 3, int(time.time()) + 1))
    assert (await server.ask("GET", "/api/v1/runs", key=token)).status_code == 401


@on_sqlite
async def test_row_19_any_origin_may_call_public_routes_without_cookies(server: Server) -> None:
    origin = {"origin": "https://anywhere.example", "access-control-request-headers": "authorization, x-trigger-source"}
    for path in ("/api/v1/tasks/t/trigger", "/api/v3/runs/run_1", "/api/v3/batches", "/api/v1/waitpoints/tokens/w/complete"):
        answer = await server.ask("OPTIONS", path, env=None, headers=origin)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")
        assert answer.headers["access-control-allow-headers"] == "authorization, x-trigger-source"
        assert "access-control-allow-credentials" not in answer.headers
    made = await server.ask("POST", "/api/v1/tasks/t/trigger", json={}, headers=origin)
    assert "x-trigger-jwt" in made.headers["access-control-expose-headers"]
    failed = await server.ask("GET", "/api/v3/runs/run_1", env=None, headers=origin)
    assert (failed.status_code, failed.headers["access-control-allow-origin"]) == (401, "*")
    closed = await server.ask("OPTIONS", "/api/v1/queues", headers=origin)
    assert (closed.status_code, "access-control-allow-origin" in closed.headers) == (405, False)
