"""More rows of the security page: tokens, batches, ids in every route, and what lists are asked. One server for all of them."""

from __future__ import annotations

import json
import timeit
from typing import Any

import pytest

from outlast.engine import tokens
from outlast.model.token import TimeOutToken
from outlast.server import body as bodies
from outlast.server.problem import Problem
from tests.server.conftest import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}


async def lives(server: Server) -> bool:
    return (await server.ask("GET", "/healthz")).status_code == 200


async def token(server: Server, **body: Any) -> dict[str, Any]:
    made = await server.ask("POST", "/api/v1/waitpoints/tokens", json=body)
    assert made.status_code == 200, made.text
    return made.json()


@pytest.mark.parametrize(
    "payload", [b"Infinity", b"-Infinity", b'{"a": NaN}', b'"\\udc00"', b"[1,]", b"'a'", b"1 2", b"{" * 101 + b"}" * 101, b"\x00"]
)
async def test_rows_28_and_31_what_is_no_json_of_ours(shared: Server, payload: bytes) -> None:
    answer = await shared.ask("POST", "/api/v1/tasks/t/trigger", content=b'{"payload":' + payload + b"}", headers=JSON)
    assert (answer.status_code, answer.json()["code"]) in [(400, code) for code in ("invalid_json", "invalid_unicode", "json_too_deep")]


async def test_row_23_shapes_of_bodies_and_names_of_options(shared: Server) -> None:
    for path in ("/api/v1/tasks/t/trigger", "/api/v2/tasks/batch", "/api/v1/waitpoints/tokens/w/complete", "/api/v1/schedules"):
        for body in (b"null", b"[]", b'"{}"', b"1"):
            assert (await shared.ask("POST", path, content=body, headers=JSON)).status_code == 400, (path, body)
    for path in ("/api/v1/tasks/t/trigger", "/api/v2/tasks/batch", "/api/v1/schedules", "/api/outlast/v1/alerts"):
        assert (await shared.ask("POST", path, content=b"", headers=JSON)).status_code in (400, 422), path
    options: dict[str, Any] = {"retries": 3, "ttl": "1m", "a\nb": 1, "externalDeploymentId": "d"}
    odd = await shared.trigger(**options)
    assert (odd.status_code, odd.headers["x-outlast-warning"]) == (200, "unknown-options: retries a%0Ab")
    assert "x-outlast-warning" not in (await shared.trigger(payloadSize=4)).headers


async def test_row_24_a_hundred_thousand_brackets_are_refused_in_no_time() -> None:
    for body in (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000):

        def refused(body: bytes = body) -> None:
            with pytest.raises(Problem, match="nested deeper than 100"):
                bodies.guard(body)

        assert min(timeit.repeat(refused, number=1, repeat=20)) < 0.01  # the quickest: the machine may be busy


async def test_row_32_a_name_twice_is_refused_in_options_and_the_last_wins_in_payloads(shared: Server) -> None:
    for body in (b'{"options":{"ttl":"1m","ttl":"2m"}}', b'{"options":{"debounce":{"key":"a","key":"b","delay":"1s"}}}'):
        answer = await shared.ask("POST", "/api/v1/tasks/t/trigger", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (400, "duplicate_key"), body
    made = await shared.ask("POST", "/api/v1/tasks/t/trigger", content=b'{"payload":{"a":1,"a":2}}', headers=JSON)
    assert (await shared.ask("GET", f"/api/v3/runs/{made.json()['id']}")).json()["payload"] == {"a": 2}


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
    assert (await shared.ask("POST", f"{path}/complete", json={"data": 1})).json() == {"success": True}
    again = {"success": True, "code": "already_completed"}
    for way in (f"{path}/complete", made["url"].replace("http://test", "")):
        assert (await shared.ask("POST", way, json={"data": 2})).json() == again
    assert (await shared.ask("GET", path)).json()["output"] == "1"
    assert (await shared.ask("POST", "/api/v1/waitpoints/tokens/waitpoint_none/complete", json={})).status_code == 404
    assert (await shared.ask("POST", f"{path}/complete", env="dev", json={})).status_code == 404
    large = await shared.ask("POST", f"{path}/complete", content=b'{"data":"' + b"x" * 10_000_000 + b'"}', headers=JSON)
    assert large.status_code == 413
    late = (await token(shared, timeout="1s"))["id"]
    await shared.runtime.engine.call(tokens.time_out_token, TimeOutToken(token_id=late, due_at=0))
    assert (await shared.ask("POST", f"/api/v1/waitpoints/tokens/{late}/complete", json={"data": 2})).json() == again
    assert (await shared.ask("GET", f"/api/v1/waitpoints/tokens/{late}")).json()["status"] == "TIMED_OUT"
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
