"""More rows of the security page: tokens, batches, ids in every route, and what lists are asked. One server for all of them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from outlast.server import roles
from outlast.server.app import _ALL  # pyright: ignore[reportPrivateUsage] - the table of every route
from tests.server.conftest import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}


async def lives(server: Server) -> bool:
    return (await server.ask("GET", "/healthz")).status_code == 200


async def token(server: Server, **body: Any) -> dict[str, Any]:
    made = await server.ask("POST", "/api/v1/waitpoints/tokens", json=body)
    assert made.status_code == 200, made.text
    return made.json()


async def test_row_2_two_headers_and_odd_characters_are_the_same_401(shared: Server) -> None:
    key = shared.keys["prod"]
    for headers in (
        [("authorization", f"Bearer {key}")] * 2,
        [("authorization", f"Bearer {key}\u00e9".encode())],
        [("cookie", f"key={key}")],
    ):
        answer = await shared.http.get("/api/v1/runs", headers=headers)  # type: ignore[arg-type] - httpx takes bytes too
        assert (answer.status_code, answer.json()["error"]) == (401, "Invalid or Missing API key")


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


@pytest.mark.parametrize(
    "payload", [b"Infinity", b"-Infinity", b'{"a": NaN}', b'"\\udc00"', b"[1,]", b"'a'", b"1 2", b"{" * 101 + b"}" * 101, b"\x00"]
)
async def test_rows_28_and_31_what_is_no_json_of_ours(shared: Server, payload: bytes) -> None:
    answer = await shared.ask("POST", "/api/v1/tasks/t/trigger", content=b'{"payload":' + payload + b"}", headers=JSON)
    assert (answer.status_code, answer.json()["code"]) in [(400, code) for code in ("invalid_json", "invalid_unicode", "json_too_deep")]


@pytest.mark.parametrize("task", ["%00", "a%0Ab", "..", "%F0%9F%98%80", "a%25b", "a%5Cb", "x" * 10_000])
async def test_row_34_more_task_ids_that_are_none(shared: Server, task: str) -> None:
    answer = await shared.ask("POST", f"/api/v1/tasks/{task}/trigger", json={})
    assert answer.status_code in (404, 405), answer.text  # `..` is a step up in the address: another route


async def test_row_35_unknown_tasks_are_refused_when_the_server_is_told_to(shared: Server) -> None:
    context = shared.runtime.context
    context.unknown_tasks = "refuse"
    try:
        refused = await shared.trigger("never.heard.of")
        assert (refused.status_code, refused.json()["error"]) == (404, "Task not found")
        assert (await shared.trigger("t")).status_code == 200
    finally:
        context.unknown_tasks = "park"


async def test_row_37_another_payload_under_a_used_key_is_the_same_run_and_a_warning(shared: Server) -> None:
    first = await shared.trigger(payload={"n": 1}, idempotencyKey="row-37")
    again, other = [await shared.trigger(payload={"n": n}, idempotencyKey="row-37") for n in (1, 2)]
    assert [answer.json() for answer in (again, other)] == [{"id": first.json()["id"], "isCached": True}] * 2
    assert "x-outlast-warning" not in again.headers
    assert other.headers["x-outlast-warning"] == "idempotency-key-reuse"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"idempotencyKey": "k" * 5_000_000}, 400),  # row 36
        ({"idempotencyKey": "a\x00b"}, 400),
        ({"idempotencyKey": ["k"]}, 400),
        ({"ttl": "P1Y"}, 400),  # row 39
        ({"ttl": "NaN"}, 400),
        ({"ttl": 1.5}, 400),
        ({"ttl": 10**12}, 400),
        ({"delay": "10000-01-01T00:00:00Z"}, 400),  # row 40
        ({"delay": "-5s"}, 400),
        ({"priority": "1"}, 400),  # row 41
        ({"maxAttempts": 10**9}, 400),  # row 42
        ({"maxAttempts": 1.5}, 400),
        ({"maxDuration": 0}, 400),  # row 43
        ({"maxDuration": -1}, 400),
        ({"maxDuration": "inf"}, 400),
        ({"concurrencyKey": "k" * 10_240}, 400),  # row 45
        ({"concurrencyKey": ":"}, 200),
        ({"queue": {"name": "task/u.v"}}, 400),  # row 46
        ({"queue": {"name": "task/t"}}, 200),
        ({"queue": {"name": "a|b"}}, 400),
        ({"queue": {"name": ""}}, 400),
        ({"queue": "emails"}, 400),
        ({"tags": ["a,b"]}, 200),  # row 47
        ({"tags": ["a\x00b"]}, 400),  # row 30
        ({"tags": {"a": 1}}, 400),
        ({"debounce": {"key": "k", "delay": "1m", "maxDelay": "30s"}}, 400),  # row 52
        ({"machine": 4}, 400),
        ({"metadata": "[1]"}, 400),
    ],
)
async def test_rows_36_to_52_more_options(shared: Server, options: dict[str, Any], status: int) -> None:
    answer = await shared.trigger(**options)
    assert answer.status_code == status, answer.text


async def test_row_45_a_limit_of_0_is_a_pause_and_other_nonsense_is_refused(shared: Server) -> None:
    path = "/api/v1/queues/u.v/concurrency/override"
    for wrong in (-1, 10**12, "5", 1.5, None):
        answer = await shared.ask("POST", path, json={"type": "task", "concurrencyLimit": wrong})
        assert answer.status_code == 400, wrong
    assert (await shared.ask("POST", path, json={"type": "task", "concurrencyLimit": 0})).json()["concurrencyLimit"] == 0


async def batch_of(server: Server, count: int) -> str:
    return (await server.ask("POST", "/api/v3/batches", json={"runCount": count})).json()["id"]


async def send(server: Server, batch: str, *items: dict[str, Any], **how: Any) -> Any:
    body = "".join(json.dumps({"task": "t", **item}) + "\n" for item in items)
    return await server.ask("POST", f"/api/v3/batches/{batch}/items", content=body, headers={"content-type": "application/x-ndjson"}, **how)


async def test_row_49_an_item_that_is_too_large_fails_alone(shared: Server) -> None:
    batch = await batch_of(shared, 2)
    sent = await send(shared, batch, {"index": 0, "payload": "x" * (3 * 1024 * 1024 + 1)}, {"index": 1})
    assert sent.json()["sealed"], sent.text
    [error] = (await shared.ask("GET", f"/api/v2/batches/{batch}")).json()["errors"]
    assert (error["index"], "3145728" in error["error"]) == (0, True)


async def test_row_50_indices_of_items(shared: Server) -> None:
    batch = await batch_of(shared, 3)
    for wrong in (-1, "0", 1.5, None):
        assert (await send(shared, batch, {"index": wrong})).status_code == 422, wrong
    assert (await send(shared, batch, {"index": 3})).status_code == 422
    first = (await send(shared, batch, {"index": 0}, {"index": 2}, {"index": 2})).json()
    assert (first["itemsAccepted"], first["itemsDeduplicated"], first["sealed"]) == (2, 1, False)  # 1 is missing
    assert (await send(shared, batch, {"index": 0}, {"index": 1})).json()["sealed"]
    assert (await send(shared, batch, {"index": 4})).status_code == 409
    assert (await send(shared, "batch_of_nobody", {"index": 0})).status_code == 404
    assert (await send(shared, await batch_of(shared, 1), {"index": 0}, env="dev")).status_code == 404


async def test_row_59_tokens_are_completed_once(shared: Server) -> None:
    made = await token(shared)
    path = f"/api/v1/waitpoints/tokens/{made['id']}"
    for value in (1, 2):
        assert (await shared.ask("POST", f"{path}/complete", json={"data": value})).json() == {"success": True}
    assert (await shared.ask("GET", path)).json()["output"] == "1"
    assert (await shared.ask("POST", "/api/v1/waitpoints/tokens/waitpoint_none/complete", json={})).status_code == 404
    assert (await shared.ask("POST", f"{path}/complete", env="dev", json={})).status_code == 404
    large = await shared.ask("POST", f"{path}/complete", content=b'{"data":"' + b"x" * 10_000_000 + b'"}', headers=JSON)
    assert large.status_code == 413
    for wrong in ({"timeout": "soon"}, {"timeout": "2001-01-01T00:00:00Z"}, {"tags": ["x" * 129]}, {"idempotencyKey": ""}):
        assert (await shared.ask("POST", "/api/v1/waitpoints/tokens", json=wrong)).status_code == 400, wrong


async def test_row_60_an_address_with_a_wrong_secret_says_the_same_whatever_is_wrong(shared: Server) -> None:
    url = (await token(shared))["url"].replace("http://test", "")
    head, _, secret = url.rpartition("/")
    other = (await token(shared))["url"].rpartition("/")[2]
    unknown = f"/api/v1/waitpoints/tokens/waitpoint_none/callback/{secret}"
    tried = [f"{head}/{wrong}" for wrong in ("0" * 64, secret[:-1], secret + "0", "x" * 10_000, "%C3%A9" * 64, secret.upper(), other)]
    answers = [await shared.ask("POST", path, env=None, json={}) for path in (*tried, unknown)]
    assert {(answer.status_code, answer.json()["error"]) for answer in answers} == {(401, "Invalid URL, hash does not match")}
    assert "access-control-allow-origin" not in answers[0].headers
    too_large = await shared.ask("POST", url, env=None, content=b'"' + b"x" * 600_000 + b'"', headers=JSON)
    assert too_large.status_code == 413
    assert (await shared.ask("POST", url, env=None, content=b"{", headers=JSON)).status_code == 400
    assert (await shared.ask("POST", url, env=None, json={"it": "is"})).json() == {"success": True}


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

    async def ask(method: str, path: str, id: str) -> None:
        filled = re.sub(r"\{[^}]+\}", lambda _: id, path)
        answer = await shared.ask(method, filled, json={} if method in ("POST", "PUT") else None)
        assert answer.status_code < 500, f"{method} {filled[:200]}: {answer.text}"
        assert "etc" not in answer.text or answer.status_code >= 400

    for id in PATHS:
        await asyncio.gather(*[ask(method, path, id) for method, path in routes])
    assert await lives(shared)


LISTS = [
    ("/api/v1/runs", ["filter[status]", "filter[batch]", "filter[createdAt][to]", "page[size]", "page[after]", "page[before]"]),
    ("/api/v1/waitpoints/tokens", ["filter[status]", "filter[createdAt][from]", "page[size]", "page[after]", "page[before]"]),
    ("/api/v1/bulk-actions", ["page[size]", "page[after]", "page[before]"]),
    ("/api/v1/deployments", ["page[size]", "from", "to", "period"]),
    ("/api/v1/queues", ["page", "perPage"]),
    ("/api/v1/schedules", ["page", "perPage"]),
]
NONSENSE = ["' OR 1=1--\x00", "-1", "1000000000000000000000", "\x00", "%", "(a+)+$\x00"]


@pytest.mark.parametrize(("path", "names"), LISTS)
async def test_rows_70_to_72_lists_are_asked_in_their_own_words(shared: Server, path: str, names: list[str]) -> None:
    for name in names:
        for wrong in NONSENSE:
            answer = await shared.ask("GET", path, params={name: wrong})
            known = name == "filter[batch]" and "\x00" not in wrong  # any text may be an id: there is no such batch
            assert answer.status_code == (200 if known else 400), f"{name}={wrong!r}: {answer.text}"
        assert (await shared.ask("GET", path, params={"sort": "id;drop table runs"})).status_code == 200
    assert await lives(shared)


async def test_row_70_a_filter_matches_to_the_letter(shared: Server) -> None:
    for tag in ("a_b", "axb", "100%", "1000"):
        await token(shared, tags=[tag])
        await shared.trigger(tags=[tag])
    for wanted in ("a_b", "100%", "%", "_", "(a+)+$", "a_b,1000"):
        expected = {tag for tag in wanted.split(",") if tag in ("a_b", "axb", "100%", "1000")}
        for path, name in (("/api/v1/waitpoints/tokens", "filter[tags]"), ("/api/v1/runs", "filter[tag]")):
            rows = (await shared.ask("GET", path, params={name: wanted})).json()["data"]
            assert {tag for row in rows for tag in row["tags"]} == expected, (path, wanted)


async def test_row_72_times_that_are_turned_round_or_endless(shared: Server) -> None:
    for path in ("/api/v1/runs", "/api/v1/waitpoints/tokens"):
        turned = {"filter[createdAt][from]": "2000", "filter[createdAt][to]": "1000"}
        assert (await shared.ask("GET", path, params=turned)).status_code == 400
        endless = {"filter[createdAt][from]": "0", "filter[createdAt][to]": "9" * 15, "page[size]": "1"}
        assert (await shared.ask("GET", path, params=endless)).status_code == 200
        assert (await shared.ask("GET", path, params={"filter[createdAt][from]": "2026-13-01"})).status_code == 400


async def test_tokens_are_listed_page_by_page_in_both_directions(shared: Server) -> None:
    made = [(await token(shared, tags=["paged"]))["id"] for _ in range(5)][::-1]

    async def page(**query: str) -> tuple[list[str], dict[str, str]]:
        params = {"filter[tags]": "paged", "page[size]": "2", **{f"page[{name}]": value for name, value in query.items()}}
        body = (await shared.ask("GET", "/api/v1/waitpoints/tokens", params=params)).json()
        return [row["id"] for row in body["data"]], body["pagination"]

    first, second, third = made[:2], made[2:4], made[4:]
    assert await page() == (first, {"next": first[-1]})
    assert await page(after=first[-1]) == (second, {"next": second[-1], "previous": second[0]})
    assert await page(after=second[-1]) == (third, {"previous": third[0]})
    assert await page(before=second[0], after=first[-1]) == (first, {"next": first[-1]})


async def test_row_80_what_looks_like_code_is_a_text(shared: Server) -> None:
    gadget = "gASVIAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAVlY2hvIJSFlFKULg=="
    run_id = (await shared.trigger(payload=gadget)).json()["id"]
    assert (await shared.ask("GET", f"/api/v3/runs/{run_id}")).json()["payload"] == gadget
    for kind in ("application/x-pickle", "application/python-pickle", "", "application/store"):
        answer = await shared.trigger(payload=gadget, payloadType=kind)
        assert answer.status_code in (400, 404, 422), kind
