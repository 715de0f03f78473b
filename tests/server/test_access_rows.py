"""Rows of the security page on who may do what: keys, roles, cookies, and ids of others in every route. One server for all of them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from outlast.server import roles
from outlast.server.app import _ALL  # pyright: ignore[reportPrivateUsage] - the table of every route
from outlast.store import keys
from tests.server.conftest import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_row_2_two_headers_and_odd_characters_are_the_same_401(shared: Server) -> None:
    key = shared.keys["prod"]
    for headers in (
        [("authorization", f"Bearer {key}")] * 2,
        [("authorization", f"Bearer {key}\u00e9".encode())],
        [("cookie", f"key={key}")],
    ):
        answer = await shared.http.get("/api/v1/runs", headers=headers)  # type: ignore[arg-type] - httpx takes bytes too
        assert (answer.status_code, answer.json()["error"]) == (401, "Invalid or Missing API key")


async def test_row_3_a_key_that_is_over_is_as_one_that_never_was(shared: Server) -> None:
    unknown = await shared.ask("GET", "/api/v1/runs", key="tr_prod_sk_" + "0" * 24)
    kept = ("www-authenticate", "x-should-retry", "content-type")
    for over in ("expires_at", "revoked_at"):
        key = shared.runtime.new_key("prod", over)
        await shared.runtime.engine.write(
            lambda tx, o=over, k=key: tx.execute(f"UPDATE api_keys SET {o} = 1 WHERE hash = :h", h=keys.digest(k))
        )
        answer = await shared.ask("GET", "/api/v1/runs", key=key)
        assert (answer.status_code, answer.json()["error"]) == (401, unknown.json()["error"]), over
        assert [answer.headers.get(name) for name in kept] == [unknown.headers.get(name) for name in kept]


async def test_row_4_a_viewers_key_reads_and_changes_nothing(shared: Server) -> None:
    key = shared.runtime.new_key("prod", "reader", role="viewer")
    assert (await shared.ask("GET", "/api/v1/runs", key=key)).status_code == 200
    assert (await shared.ask("POST", "/api/v1/tasks/t/trigger", key=key, json={})).status_code == 403
    own = await shared.ask("POST", "/api/outlast/v1/schedules/preview", key=key, json={"cron": "* * * * *"})
    assert (own.status_code, own.json()["error"]["code"]) == (403, "insufficient_scope")


DOORS = {
    "trigger": ("POST", "/api/v1/tasks/t/trigger"),
    "batch": ("POST", "/api/v2/tasks/batch"),
    "run": ("GET", "/api/v3/runs/RUN"),
    "list": ("GET", "/api/v1/runs"),
    "cancel": ("POST", "/api/v2/runs/RUN/cancel"),
    "live": ("GET", "/realtime/v1/runs/RUN?offset=-1"),
    "wait token": ("POST", "/api/v1/waitpoints/tokens"),
    "mint": ("POST", "/api/v1/auth/public-tokens"),
    "queues": ("GET", "/api/v1/queues"),
    "schedule": ("DELETE", "/api/v1/schedules/sched_1"),
    "bulk": ("GET", "/api/v1/bulk-actions"),
    "variables": ("GET", "/api/v1/projects/default/envvars/prod"),
    "variable": ("PUT", "/api/v1/projects/default/envvars/prod/A"),
    "alerts": ("GET", "/api/outlast/v1/alerts"),
    "who": ("GET", "/api/v1/whoami"),
}
OPENS = {
    "operator": set(DOORS),
    "viewer": {name for name, (method, _) in DOORS.items() if method == "GET"},
    "trigger": {"who", "trigger", "batch"},
    "runs": {"who", "trigger", "batch", "run", "list", "cancel", "live", "wait token", "mint"},
    "worker": {"who"},
    "variables": {"who", "variables", "variable"},
}


@pytest.mark.parametrize("role", OPENS)
async def test_row_4_a_key_opens_what_its_role_names(shared: Server, role: str) -> None:
    assert set(OPENS) == set(roles.MEANINGS)
    run_id = (await shared.trigger()).json()["id"]
    key, opened = shared.runtime.new_key("prod", role, role=role), set[str]()
    for name, (method, path) in DOORS.items():
        body = None if method == "GET" else {"items": [{"task": "t"}], "scopes": ["read:runs"], "value": "1"}
        answer = await shared.ask(method, path.replace("RUN", run_id), key=key, json=body)
        assert answer.status_code in (200, 202, 403, 404), (name, answer.text)
        if answer.status_code != 403:
            opened.add(name)
    assert opened == OPENS[role]


async def test_row_18_a_cookie_opens_nothing_of_the_api(shared: Server) -> None:
    run_id = (await shared.trigger()).json()["id"]
    for path in (f"/api/outlast/v1/runs/{run_id}/events", f"/realtime/v1/runs/{run_id}?offset=-1", f"/realtime/v1/streams/{run_id}/ai"):
        headers = {"origin": "https://evil.example", "cookie": f"__Host-outlast={shared.keys['prod']}"}
        answer = await shared.ask("GET", path, env=None, headers=headers)
        assert answer.status_code == 401, path
        assert "access-control-allow-credentials" not in answer.headers


async def one_of_each(server: Server) -> dict[str, str]:
    """What a part of an address names, by its name in the route."""
    run = (await server.trigger(tags=["one"])).json()["id"]
    schedule = {"task": "cron", "cron": "0 9 * * 1", "deduplicationKey": "one"}
    alert = {"name": "one", "type": "webhook", "target": "https://93.184.215.14/", "events": ["run.failed"]}
    made = {
        "batch": await server.ask("POST", "/api/v3/batches", json={"runCount": 1}),
        "schedule": await server.ask("POST", "/api/v1/schedules", json=schedule),
        "alert": await server.ask("POST", "/api/outlast/v1/alerts", json=alert),
        "bulk": await server.ask("POST", "/api/v1/bulk-actions", json={"action": "replay", "runIds": ["run_none"]}),
    }
    ids = {name: answer.json()["id"] for name, answer in made.items()}
    token = await server.ask("POST", "/api/v1/waitpoints/tokens", json={})
    deployment = (await server.ask("GET", "/api/v1/deployments")).json()["data"][0]["id"]
    worker = (await server.ask("GET", "/api/outlast/v1/workers")).json()["data"][0]["id"]
    return ids | {"run": run, "token": token.json()["id"], "deployment": deployment, "worker": worker}


OPEN = (
    "callback",
    "/envvars/",
    "{ref}",
    "{queue}",
    "{name",
    "{what",
    "{key}/reset",
    "{task}",
    "{error}",
)  # what names nothing of one environment

BODY = {  # whatever a route may ask for
    "streamId": "s", "tags": ["a"], "delay": "1h", "metadata": {}, "task": "cron", "cron": "0 9 * * 1", "data": 1, "name": "n",
    "type": "webhook", "target": "https://93.184.215.14/", "events": ["run.failed"],
    "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z",
}  # fmt: skip


async def test_row_5_no_route_finds_anything_of_another_environment(shared: Server) -> None:
    ids = await one_of_each(shared)
    routes = [(method, path) for method, path, _ in _ALL if "{" in path and not any(part in path for part in OPEN)]
    assert {name for _, path in routes for name in re.findall(r"\{(\w+)", path)} - set(ids) == {"field", "span", "target", "key"}

    async def ask(method: str, path: str) -> None:
        filled = re.sub(r"\{(\w+)[^}]*\}", lambda found: ids.get(found[1], "payload"), path)
        kind = "application/x-ndjson" if path.endswith("/items") else "application/json"
        answer = await shared.ask(
            method, filled, env="dev", content=json.dumps(BODY) if method != "GET" else None, headers={"content-type": kind}
        )
        assert answer.status_code == 404, f"{method} {filled}: {answer.status_code} {answer.text}"

    await asyncio.gather(*[ask(method, path) for method, path in routes])
    assert (await shared.ask("GET", f"/api/v3/runs/{ids['run']}")).json()["status"] == "QUEUED"


PATHS = [
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%00",
    "run_" + "x" * 10_000,
    "%F0%9F%98%80",
    "RUN_1",
    "' OR 1=1--",
    "%25",
    "-1",
    "%0d%0aset-cookie:a=b",
]


async def test_rows_5_and_73_no_route_falls_over_ids_that_are_none(shared: Server) -> None:
    """Every route with a part of its address to choose, whatever is chosen, and in another environment."""
    routes = [(method, path) for method, path, _ in _ALL if "{" in path and not path.endswith("/trigger")]
    assert len(routes) > 60
    secret = Path("/etc/passwd").read_text().partition("\n")[0]

    async def ask(method: str, path: str, id: str) -> None:
        filled = re.sub(r"\{[^}]+\}", lambda _: id, path)
        answer = await shared.ask(method, filled, json={} if method in ("POST", "PUT") else None)
        assert answer.status_code < 500, f"{method} {filled[:200]}: {answer.text}"
        assert secret not in answer.text

    for id in PATHS:
        await asyncio.gather(*[ask(method, path, id) for method, path in routes])
    assert (await shared.ask("GET", "/healthz")).status_code == 200
