"""The wire, as Trigger.dev's clients use it."""

from __future__ import annotations

import jwt

from outlast.engine import sessions
from outlast.model.manifest import Manifest, TaskDefinition
from outlast.model.requests import OpenSession
from tests.server.conftest import Server


async def test_trigger_answers_the_id_and_a_signed_token(server: Server) -> None:
    answer = await server.trigger(payload={"a": 1})
    assert answer.status_code == 200
    body = answer.json()
    assert body["id"].startswith("run_")
    assert body["isCached"] is False
    claims = jwt.decode(answer.headers["x-trigger-jwt"], options={"verify_signature": False}, audience="https://api.trigger.dev")
    assert claims["scopes"] == [f"read:runs:{body['id']}", f"write:inputStreams:{body['id']}"]
    assert claims["pub"] is True
    assert "sub" in answer.headers["x-trigger-jwt-claims"]


async def test_retrieve_gives_back_what_was_triggered(server: Server) -> None:
    made = await server.trigger(
        payload='{"n":18446744073709551617}', payloadType="application/json", tags=["b", "a"], metadata={"m": 1}, ttl="10m"
    )
    run = (await server.ask("GET", f"/api/v3/runs/{made.json()['id']}")).json()
    assert (run["status"], run["isQueued"], run["taskIdentifier"], run["tags"]) == ("QUEUED", True, "t", ["a", "b"])
    assert run["payload"] == {"n": 18446744073709551617}
    assert (run["metadata"], run["ttl"], run["costInCents"], run["attempts"]) == ({"m": 1}, "10m", 0, [])
    assert "finishedAt" not in run
    assert "output" not in run


async def test_the_same_request_id_makes_one_run_and_another_body_a_warning(server: Server) -> None:
    """Row 38, as settled: the same run for a day, and a header that says so."""
    headers = {"x-trigger-request-idempotency-key": "r1"}
    first, again = await server.trigger(payload=1, headers=headers), await server.trigger(payload=1, headers=headers)
    other = await server.trigger(payload=2, headers=headers)
    assert first.json() == again.json() == other.json()
    assert other.headers["x-outlast-warning"] == "request-id-reuse"
    assert "x-outlast-warning" not in again.headers


async def test_an_idempotency_key_is_cached(server: Server) -> None:
    first, again = await server.trigger(idempotencyKey="k"), await server.trigger(idempotencyKey="k")
    assert again.json() == {"id": first.json()["id"], "isCached": True}


async def test_the_list_pages_forwards_and_back(server: Server) -> None:
    made = [(await server.trigger()).json()["id"] for _ in range(5)]
    first = (await server.ask("GET", "/api/v1/runs", params={"page[size]": "2"})).json()
    assert [r["id"] for r in first["data"]] == [made[4], made[3]]
    assert "previous" not in first["pagination"]
    second = (await server.ask("GET", "/api/v1/runs", params={"page[size]": "2", "page[after]": first["pagination"]["next"]})).json()
    assert [r["id"] for r in second["data"]] == [made[2], made[1]]
    params = {"page[size]": "2", "page[after]": first["pagination"]["next"], "page[before]": second["pagination"]["previous"]}
    back = (await server.ask("GET", "/api/v1/runs", params=params)).json()
    assert [r["id"] for r in back["data"]] == [made[4], made[3]]


async def test_filters_match_what_they_name(server: Server) -> None:
    await server.trigger(tags=["x"])
    await server.trigger("u.v", tags=["y", '"machine":"micro"'], machine="large-1x", region="eu")
    for params, count in (
        ({"filter[tag]": "x"}, 1),
        ({"filter[tag]": "%"}, 0),
        ({"filter[taskIdentifier]": "u.v"}, 1),
        ({"filter[status]": "QUEUED,COMPLETED"}, 2),
        ({"filter[status]": "FAILED"}, 0),
        ({"filter[queue]": "task/t"}, 1),
        ({"filter[machine]": "large-1x"}, 1),
        ({"filter[machine]": "small-1x"}, 1),  # what a run has that asked for none
        ({"filter[machine]": "large-1x,small-1x"}, 2),
        ({"filter[machine]": "micro"}, 0),
        ({"filter[region]": "eu"}, 1),
        ({"filter[schedule]": "sched_1"}, 0),
        ({"filter[bulkAction]": "bulk_1"}, 0),
        ({"filter[createdAt][period]": "1h"}, 2),
        ({"filter[createdAt][to]": "1000"}, 0),
    ):
        found = (await server.ask("GET", "/api/v1/runs", params=params)).json()
        assert len(found["data"]) == count, params


async def test_cancel_is_no_error_twice_and_404_for_unknown(server: Server) -> None:
    run_id = (await server.trigger()).json()["id"]
    for _ in range(2):
        answer = await server.ask("POST", f"/api/v2/runs/{run_id}/cancel")
        assert (answer.status_code, answer.json()) == (200, {"id": run_id})
    run = (await server.ask("GET", f"/api/v3/runs/{run_id}")).json()
    assert (run["status"], run["isCancelled"]) == ("CANCELED", True)
    missing = await server.ask("POST", "/api/v2/runs/run_none/cancel")
    assert (missing.status_code, missing.headers["x-should-retry"]) == (404, "false")


async def test_replay_and_reschedule(server: Server) -> None:
    run_id = (await server.trigger(payload={"a": 1}, delay="1h")).json()["id"]
    moved = await server.ask("POST", f"/api/v1/runs/{run_id}/reschedule", json={"delay": "2h"})
    assert moved.json()["status"] == "DELAYED"
    replayed = (await server.ask("POST", f"/api/v1/runs/{run_id}/replay")).json()["id"]
    run = (await server.ask("GET", f"/api/v3/runs/{replayed}")).json()
    assert (run["status"], run["payload"]) == ("QUEUED", {"a": 1})
    refused = await server.ask("POST", f"/api/v1/runs/{replayed}/reschedule", json={"delay": "1h"})
    assert refused.status_code == 422


async def test_a_batch_reports_the_item_that_was_refused(server: Server) -> None:
    items = [{"task": "t", "payload": 1}, {"task": "t", "options": {"maxAttempts": 999}}, {"task": "u.v"}]
    made = await server.ask("POST", "/api/v2/tasks/batch", json={"items": items})
    assert (made.status_code, made.json()["runCount"]) == (202, 3)
    batch = (await server.ask("GET", f"/api/v2/batches/{made.json()['id']}")).json()
    assert (batch["status"], batch["runCount"], len(batch["runs"])) == ("PROCESSING", 3, 2)
    [error] = batch["errors"]
    assert (error["index"], error["taskIdentifier"]) == (1, "t")
    assert "maxAttempts" in error["error"]


async def test_a_retried_batch_makes_no_second_one(server: Server) -> None:
    body, headers = {"items": [{"task": "t"}] * 300}, {"x-trigger-request-idempotency-key": "b1"}
    first = await server.ask("POST", "/api/v2/tasks/batch", json=body, headers=headers)
    again = await server.ask("POST", "/api/v2/tasks/batch", json=body, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    queue = (await server.ask("GET", "/api/v1/queues/t", params={"type": "task"})).json()
    assert queue["queued"] == 300


async def test_queues_pause_override_and_reset(server: Server) -> None:
    name = "a%252Fb_c"
    paused = (await server.ask("POST", f"/api/v1/queues/{name}/pause", json={"type": "custom", "action": "pause"})).json()
    assert (paused["name"], paused["type"], paused["paused"], paused["concurrencyLimit"]) == ("a/b_c", "custom", True, 5)
    over = (await server.ask("POST", f"/api/v1/queues/{name}/concurrency/override", json={"type": "custom", "concurrencyLimit": 9})).json()
    assert (over["concurrencyLimit"], over["concurrency"]["base"], over["concurrency"]["override"]) == (9, 5, 9)
    reset = await server.ask("POST", f"/api/v1/queues/{name}/concurrency/reset", json={"type": "custom"})
    assert reset.json()["concurrencyLimit"] == 5
    twice = await server.ask("POST", f"/api/v1/queues/{name}/concurrency/reset", json={"type": "custom"})
    assert twice.status_code == 400
    above = await server.ask("POST", f"/api/v1/queues/{name}/concurrency/override", json={"type": "custom", "concurrencyLimit": 5_000})
    assert above.status_code == 400
    missing = await server.ask("GET", "/api/v1/queues/none", params={"type": "custom"})
    assert (missing.status_code, missing.json()["error"]) == (404, "queue-not-found")


async def test_a_queue_says_what_went_through_it(server: Server) -> None:
    ids = [(await server.trigger()).json()["id"] for _ in range(3)]
    await server.ask("POST", f"/api/v2/runs/{ids[0]}/cancel")
    path = "/api/v1/queues/t/metrics"
    found = (await server.ask("GET", path, params={"type": "task"})).json()
    assert (found["queue"]["queued"], found["bucketMs"], len(found["buckets"])) == (2, 60_000, 60)
    total: dict[str, int] = {}
    for bucket in found["buckets"]:
        for status, n in bucket["runs"].items():
            total[status] = total.get(status, 0) + n
    assert total == {"CANCELED": 1, "QUEUED": 2}
    before = {"type": "task", "from": "2026-01-01", "to": "2026-01-02"}
    assert not any(bucket["runs"] for bucket in (await server.ask("GET", path, params=before)).json()["buckets"])
    for wrong in ({"from": "2026-01-02", "to": "2026-01-01"}, {"period": "soon"}, {"from": "2090-01-01"}):
        assert (await server.ask("GET", path, params={"type": "task", **wrong})).status_code == 400, wrong


async def test_health_and_unknown_paths(server: Server) -> None:
    assert (await server.ask("GET", "/healthz", env=None)).status_code == 200
    assert (await server.ask("GET", "/readyz", env=None)).status_code == 200
    missing = await server.ask("GET", "/api/v9/nothing")
    assert (missing.status_code, missing.json()["error"]) == (404, "Not found")
    assert (await server.ask("DELETE", "/api/v1/runs")).status_code == 405


async def test_deployments_are_what_workers_registered(server: Server) -> None:
    listed = (await server.ask("GET", "/api/v1/deployments")).json()
    [deployment] = listed["data"]
    assert (deployment["status"], deployment["runtime"], deployment["runtimeVersion"]) == ("DEPLOYED", "python", "3.11")
    for name in ("current", deployment["id"], deployment["version"]):
        assert (await server.ask("GET", f"/api/v1/deployments/{name}")).json() == deployment
    assert (await server.ask("GET", "/api/v1/deployments/current", env="dev")).status_code == 404
    assert (await server.ask("GET", "/api/v1/deployments/deployment_x%00")).status_code == 404
    manifest = Manifest(python="3.12", content_hash="2", tasks=[TaskDefinition(id="t")])
    asked = OpenSession(env_id=3, server_id="s", worker="w", boot_id="b", manifest=manifest)
    await server.runtime.engine.call(sessions.open_session, asked)
    first = (await server.ask("GET", "/api/v1/deployments", params={"page[size]": "1"})).json()
    second = (await server.ask("GET", "/api/v1/deployments", params={"page[size]": "1", "page[after]": first["pagination"]["next"]})).json()
    assert (first["data"][0]["runtimeVersion"], second["data"]) == ("3.12", [deployment])
    back = (await server.ask("GET", "/api/v1/deployments", params={"page[before]": second["pagination"]["previous"]})).json()
    assert back["data"] == first["data"]
    assert (await server.ask("GET", "/api/v1/deployments", params={"status": "FAILED"})).json()["data"] == []


async def test_an_idempotency_key_that_is_reset_makes_a_new_run(server: Server) -> None:
    first = (await server.trigger(idempotencyKey="k")).json()["id"]
    for body, status in (({}, 400), ({"taskIdentifier": "u.v"}, 404), ({"taskIdentifier": "t"}, 200), ({"taskIdentifier": "t"}, 404)):
        assert (await server.ask("POST", "/api/v1/idempotencyKeys/k/reset", json=body)).status_code == status, body
    again = (await server.trigger(idempotencyKey="k")).json()
    assert (again["id"] != first, again["isCached"]) == (True, False)
