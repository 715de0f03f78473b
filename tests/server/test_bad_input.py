"""Bad inputs by their rows in the security page: a clear answer, nothing half done, and the server stays up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outlast.store import runs
from tests.server.conftest import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def newest(server: Server) -> list[str]:
    return [run["id"] for run in (await server.ask("GET", "/api/v1/runs", params={"page[size]": "1"})).json()["data"]]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic abc",
        "Bearer",
        "Bearer x",
        "Bearer tr_prod_sk_000000000000000000000000",
        "Bearer tr_prod_sk_0000 00000000",
        "bearer tr_prod_sk_" + "0" * 24,
    ],
)
async def test_rows_1_to_3_a_wrong_key_is_always_the_same_401(shared: Server, header: str) -> None:
    answer = await shared.ask("POST", "/api/v1/tasks/t/trigger", env=None, json={}, headers={"authorization": header} if header else {})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"] == "Invalid or Missing API key"


async def test_row_5_another_environments_run_does_not_exist(shared: Server) -> None:
    run_id = (await shared.trigger()).json()["id"]
    for method, path in (
        ("GET", f"/api/v3/runs/{run_id}"),
        ("POST", f"/api/v2/runs/{run_id}/cancel"),
        ("POST", f"/api/v1/runs/{run_id}/replay"),
        ("POST", f"/api/v1/runs/{run_id}/tags"),
        ("GET", f"/api/v1/runs/{run_id}/result"),
        ("GET", f"/api/outlast/v1/runs/{run_id}/logs"),
        ("GET", f"/api/outlast/v1/runs/{run_id}/history"),
        ("GET", f"/api/outlast/v1/runs/{run_id}/result"),
    ):
        answer = await shared.ask(method, path, env="dev", json={"tags": ["x"]} if method == "POST" else None)
        assert answer.status_code == 404, path


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"\xef\xbb\xbf{}", 400),
        (b'{"payload": "\xff"}', 400),
        ('{"payload":1}'.encode("utf-16"), 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"payload": NaN}', 400),
        (b'{"payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"payload": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", 400),
        (b'{"payload": "\\ud800"}', 400),
        (b'{"payload": ' + b"1" * 5_000 + b"}", 400),
        (b'{"options": {"ttl": "1m", "ttl": "2m"}}', 400),
        (b'{"payload": {"a": 1}, "unknown": [1]}', 200),
        (b'{"payload": {"__proto__": 1, "a": 1, "a": 2}}', 200),
    ],
)
async def test_rows_22_to_33_bodies(shared: Server, body: bytes, status: int) -> None:
    before = await newest(shared)
    answer = await shared.ask("POST", "/api/v1/tasks/t/trigger", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert (await newest(shared) == before) is (status == 400)


async def test_row_22_a_wrong_content_type_is_415(shared: Server) -> None:
    answer = await shared.ask("POST", "/api/v1/tasks/t/trigger", content=b"{}", headers={"content-type": "text/xml"})
    assert answer.status_code == 415


async def test_row_25_a_payload_over_the_limit_is_413(shared: Server) -> None:
    body = json.dumps({"payload": "x" * (3 * 1024 * 1024)}).encode()
    answer = await shared.ask("POST", "/api/v1/tasks/t/trigger", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("number", ["9007199254740993", "18446744073709551616", "1" * 4_300, "-0", "1e300"])
async def test_row_29_numbers_are_kept_to_the_letter(shared: Server, number: str) -> None:
    answer = await shared.ask(
        "POST", "/api/v1/tasks/t/trigger", content=f'{{"payload": [{number}]}}'.encode(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    run_id = answer.json()["id"]
    data = await shared.runtime.engine.read(lambda tx: runs.data(tx, [run_id]))
    assert data[run_id].payload == f"[{number}]"


@pytest.mark.parametrize("task", ["a b", "a|b", "x" * 129, "\u202e", "a:b"])
async def test_row_34_task_ids_outside_the_pattern_are_404(shared: Server, task: str) -> None:
    assert (await shared.trigger(task)).status_code == 404


async def test_row_35_an_unknown_task_waits_for_its_version(shared: Server) -> None:
    made = await shared.trigger("never.heard.of")
    assert made.status_code == 200
    assert (await shared.ask("GET", f"/api/v3/runs/{made.json()['id']}")).json()["status"] == "PENDING_VERSION"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"idempotencyKey": ""}, 400),
        ({"idempotencyKey": "k" * 2_049}, 400),
        ({"idempotencyKey": "k" * 2_048}, 200),
        ({"ttl": -1}, 400),
        ({"ttl": "abc"}, 400),
        ({"ttl": "999999999d"}, 400),
        ({"ttl": 0}, 200),
        ({"delay": "2026-02-30"}, 400),
        ({"delay": "2030-01-01T00:00:00"}, 400),
        ({"delay": "9999-01-01T00:00:00Z"}, 400),
        ({"delay": "2001-01-01T00:00:00Z"}, 200),
        ({"priority": "high"}, 400),
        ({"priority": -5}, 400),
        ({"priority": 1e308}, 400),
        ({"maxAttempts": 251}, 400),
        ({"maxAttempts": -1}, 400),
        ({"maxAttempts": "3"}, 400),
        ({"maxAttempts": 0}, 200),
        ({"maxDuration": 4}, 400),
        ({"maxDuration": None}, 200),
        ({"concurrencyKey": "*:{}"}, 200),
        ({"concurrencyKey": "k" * 129}, 400),
        ({"concurrencyKey": "a\x00b"}, 400),
        ({"queue": {"name": "has space"}}, 400),
        ({"tags": ["t"] * 3}, 200),
        ({"tags": [str(n) for n in range(11)]}, 422),
        ({"tags": ["x" * 129]}, 400),
        ({"tags": [""]}, 400),
        ({"tags": ["<script>"]}, 200),
        ({"metadata": [1]}, 400),
        ({"metadata": {"a": "x" * (256 * 1024)}}, 413),
        ({"machine": "huge"}, 400),
        ({"debounce": {"key": "k" * 1_024, "delay": "1s"}}, 400),
        ({"debounce": {"key": "", "delay": "1s"}}, 400),
        ({"debounce": {"key": "k", "delay": "0s"}}, 400),
        ({"debounce": {"key": "k", "delay": "2026-01-01T00:00:00Z"}}, 400),
        ({"debounce": {"key": "k", "delay": "1m", "maxDelay": "1m"}}, 400),
        ({"debounce": {"key": "k", "delay": "2d"}}, 400),
        ({"debounce": {"key": "k", "delay": "1s", "mode": "both"}}, 400),
        ({"debounce": {"key": "k", "delay": "1s"}, "delay": "1h"}, 400),
        ({"debounce": "k"}, 400),
        ({"lockToVersion": "20200101.1"}, 422),
        ({"payloadType": "application/x-pickle"}, 422),
    ],
)
async def test_rows_36_to_48_options(shared: Server, options: dict[str, Any], status: int) -> None:
    answer = await shared.trigger(payload="1", **options)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("count", [0, 1_001])
async def test_row_49_a_batch_has_1_to_1000_items(shared: Server, count: int) -> None:
    answer = await shared.ask("POST", "/api/v2/tasks/batch", json={"items": [{"task": "t"}] * count})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "params",
    [
        {"filter[status]": "' OR 1=1--"},
        {"page[size]": "-1"},
        {"page[size]": "1000000000"},
        {"page[after]": "../../etc"},
        {"filter[createdAt][from]": "now"},
        {"filter[createdAt][from]": "10", "filter[createdAt][to]": "5"},
        {"filter[createdAt][period]": "P1Y"},
        {"filter[tag]": "a\x00"},
    ],
)
async def test_rows_70_to_72_filters(shared: Server, params: dict[str, str]) -> None:
    answer = await shared.ask("GET", "/api/v1/runs", params=params)
    assert answer.status_code == 400


@pytest.mark.parametrize("run_id", ["..%2f..%2fetc", "%00", "run_" + "x" * 10_000, "RUN_1"])
async def test_row_73_path_ids(shared: Server, run_id: str) -> None:
    assert (await shared.ask("GET", f"/api/v3/runs/{run_id}")).status_code == 404


async def test_own_routes_answer_with_an_error_object(shared: Server) -> None:
    answer = await shared.ask("GET", "/api/outlast/v1/runs/run_none/logs")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], bool(error["request_id"])) == (404, "not_found", True)


async def test_keys_are_stored_only_as_hashes(shared: Server) -> None:
    rows = await shared.runtime.engine.read(lambda tx: tx.all("SELECT hash, last_four FROM api_keys"))
    assert all(key not in str(rows) for key in shared.keys.values())
