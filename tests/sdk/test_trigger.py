"""What triggering puts on the wire, and what it gives back."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest
from pydantic import BaseModel, Field, ValidationError

from outlast import BatchItem, Debounce, batch, errors, idempotency_key, queues, runs, sync, task, tasks
from outlast.errors import InvalidValue, NotBuiltYet, SubtaskFailed
from tests.sdk.house import RUN, Wire, inside_a_task


class Order(BaseModel):
    id: int = Field(alias="orderId")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_a_trigger_is_one_post_with_a_packet_and_its_type(wire: Wire) -> None:
    handle = await tasks.trigger("users.process", {"a": 1})
    assert (wire.asked[0].method, wire.asked[0].url.path) == ("POST", "/api/v1/tasks/users.process/trigger")
    assert wire.body() == {"payload": '{"a":1}', "options": {"payloadType": "application/json"}}
    assert (handle.id, handle.is_cached, handle.public_access_token, handle.task_identifier) == ("run_1", False, "jwt", "users.process")


async def test_options_have_their_names_of_the_wire(wire: Wire) -> None:
    await tasks.trigger(
        "t", 1, delay=datetime(2027, 1, 1, tzinfo=UTC), ttl=60, priority=10, tags="user:1", metadata={"plan": "pro"}, queue="paid",
        concurrency_key=7, max_attempts=5, max_duration=None, machine="micro", idempotency_key_ttl="7d", test=True, detached=True,
    )  # fmt: skip
    assert wire.options == {
        "payloadType": "application/json", "delay": "2027-01-01T00:00:00+00:00", "ttl": 60, "priority": 10, "tags": ["user:1"],
        "metadata": '{"plan":"pro"}', "metadataType": "application/json", "queue": {"name": "paid"}, "concurrencyKey": "7",
        "maxAttempts": 5, "maxDuration": None, "machine": "micro", "idempotencyKeyTTL": "7d", "test": True, "detached": True,
    }  # fmt: skip


async def test_debounce_travels_by_trigger_devs_names(wire: Wire) -> None:
    await tasks.trigger("t", 1, debounce=Debounce("k", "5s"))
    assert wire.options["debounce"] == {"key": "k", "delay": "5s", "mode": "leading"}
    await tasks.trigger("t", 1, debounce=Debounce("k", "5s", mode="trailing", max_delay="1m"))
    assert wire.options["debounce"] == {"key": "k", "delay": "5s", "mode": "trailing", "maxDelay": "1m"}


@pytest.mark.parametrize("options", [{"version": "1"}])
def test_what_comes_later_is_refused_by_its_name(wire: Wire, options: dict[str, Any]) -> None:
    with pytest.raises(NotBuiltYet, match=f"{next(iter(options))}= comes with"):
        tasks.trigger("t", 1, **options)


@pytest.mark.parametrize(
    ("payload", "options", "message"),
    [
        ({"file": b"x"}, {}, "at file is a bytes"), (float("nan"), {}, "nan"), ("\ud800", {}, "surrogate"), (1, {"dely": "1h"}, "dely"),
        (1, {"delay": datetime(2027, 1, 1)}, "time zone"), (1, {"idempotency_key": ""}, "1 to 2048"),
        (1, {"idempotency_key": "k" * 2_049}, "1 to 2048"), (1, {"metadata": {"x": b""}}, "at x is a bytes"),
    ],
)  # fmt: skip
def test_what_cannot_travel_is_refused_before_anything_is_sent(wire: Wire, payload: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        tasks.trigger("t", payload, **options)
    assert wire.asked == []


async def test_a_task_object_checks_its_payload_before_anything_is_sent(wire: Wire) -> None:
    @task(id="orders.ship")
    async def ship(payload: Order) -> None: ...

    with pytest.raises(ValidationError):
        ship.trigger(cast("Order", {"orderId": "x"}))
    assert wire.asked == []
    await ship.trigger(Order(orderId=7))
    assert wire.body()["payload"] == '{"orderId":7}'


async def test_outside_a_task_a_raw_key_counts_everywhere(wire: Wire) -> None:
    await tasks.trigger("t", idempotency_key=["welcome", "ada"])
    assert wire.options["idempotencyKey"] == digest("welcome-ada")
    assert wire.options["idempotencyKeyOptions"] == {"key": "welcome-ada", "scope": "global"}
    assert "parentRunId" not in wire.options


async def test_inside_a_task_a_raw_key_counts_within_the_run_and_the_parent_is_named(wire: Wire) -> None:
    with inside_a_task(attempt=2):
        await tasks.trigger("t", idempotency_key="k")
        assert wire.options["idempotencyKey"] == digest("k-run_parent")
        assert wire.options["idempotencyKeyOptions"] == {"key": "k", "scope": "run"}
        assert wire.options["parentRunId"] == "run_parent"
        assert idempotency_key("k", scope="attempt") == digest("k-run_parent-2")
        assert idempotency_key("k", scope="global") == digest("k")


# ---- batches


async def test_a_batch_is_one_request_for_each_thousand_items(wire: Wire) -> None:
    wire.default = lambda _: httpx.Response(202, json={"id": f"batch_{len(wire.asked)}"})
    handle = await tasks.batch_trigger("t", range(2_001))
    assert [len(wire.body(n)["items"]) for n in range(3)] == [1_000, 1_000, 1]
    assert (handle.id, handle.run_count) == ("batch_1", 2_001)
    assert {request.url.path for request in wire.asked} == {"/api/v2/tasks/batch"}


async def test_a_batch_that_is_refused_on_the_way_says_how_far_it_came(wire: Wire) -> None:
    async def source() -> AsyncIterator[int]:
        for i in range(1_500):
            yield i

    late = httpx.Response(429, json={"error": "slow down"}, headers={"retry-after": "80"})
    for items, count in ((range(2_001), 2_001), (source(), 1_500)):
        wire.script = [httpx.Response(202, json={"id": "batch_1"}), *[late] * 5]
        with pytest.raises(
            errors.BatchTriggerError, match=f"429 slow down; 1000 of {count} items were triggered, first in batch_1"
        ) as raised:
            await tasks.batch_trigger("t", items)
        found = raised.value
        assert (found.phase, found.batch_id, found.sent_count, found.item_count) == ("stream", "batch_1", 1_000, count)
        assert (found.is_rate_limited, found.retry_after_ms, found.status) == (True, 80_000, 429)
    wire.script = [httpx.Response(403, json={"error": "no"})]
    with pytest.raises(errors.BatchTriggerError, match="nothing was triggered") as raised:
        await tasks.batch_trigger("t", [1])
    assert (raised.value.phase, raised.value.is_rate_limited, type(raised.value.cause)) == ("create", False, errors.PermissionDenied)


async def test_an_async_iterable_is_sent_while_it_is_read(wire: Wire) -> None:
    sent_when_read: list[int] = []

    async def source() -> AsyncIterator[int]:
        for i in range(1_001):
            sent_when_read.append(len(wire.asked))
            yield i

    await tasks.batch_trigger("t", source())
    assert (sent_when_read[999], sent_when_read[1_000], len(wire.asked)) == (0, 1, 2)


async def test_a_mixed_batch_names_the_task_of_each_item(wire: Wire) -> None:
    @task(id="orders.ship")
    async def ship(payload: Order) -> None: ...

    await batch.trigger([BatchItem(Order(orderId=1), task=ship, delay="1h"), BatchItem({"x": 1}, task="other.task")])
    first, second = wire.body()["items"]
    assert (first["task"], first["payload"], first["options"]["delay"]) == ("orders.ship", '{"orderId":1}', "1h")
    assert (second["task"], second["payload"]) == ("other.task", '{"x":1}')


@pytest.mark.parametrize("items", [[], [BatchItem(1)], [BatchItem(1, task="a"), BatchItem(2)]])
def test_a_batch_without_items_or_without_a_task_is_refused(wire: Wire, items: list[Any]) -> None:
    with pytest.raises(InvalidValue):
        batch.trigger(items)


# ---- waiting outside a task


async def test_outside_a_task_waiting_asks_again_until_the_run_is_over(wire: Wire) -> None:
    @task(id="orders.count")
    async def count(payload: Order) -> set[int]: ...

    wire.script = [
        httpx.Response(200, json={"id": "run_1"}),
        httpx.Response(200, json={"done": False, "id": "run_1"}),
        httpx.Response(200, json={"done": True, "ok": True, "id": "run_1", "output": "[1,2]", "outputType": "application/json"}),
    ]
    assert await count.trigger_and_wait(Order(orderId=1)).unwrap() == {1, 2}
    assert [str(r.url.copy_with(host="s")) for r in wire.asked[1:]] == ["http://s/api/outlast/v1/runs/run_1/result?wait=20"] * 2


async def test_a_failed_run_is_a_result_and_unwrap_raises_it(wire: Wire) -> None:
    @task(id="orders.fail")
    async def fail() -> None: ...

    wire.default = lambda request: httpx.Response(
        200,
        json={
            "id": "run_1",
            "done": True,
            "ok": False,
            "status": "FAILED",
            "error": {"name": "ValueError", "message": "no", "stackTrace": "…"},
        },
    )
    result = await fail.trigger_and_wait()
    assert (result.ok, result.error.name, result.error.message, result.error.stack) == (False, "ValueError", "no", "…")
    with pytest.raises(AttributeError, match=r"look at \.error"):
        _ = result.output
    with pytest.raises(SubtaskFailed, match=r"orders\.fail \(run_1\) failed: no") as raised:
        fail.sync.trigger_and_wait().unwrap()
    assert (raised.value.run_id, raised.value.task_id) == ("run_1", "orders.fail")


def test_in_a_hook_waiting_is_refused_by_name(wire: Wire) -> None:
    @task(id="orders.fail")
    async def fail() -> None: ...

    with inside_a_task(), pytest.raises(NotBuiltYet, match="in a hook"):
        fail.trigger_and_wait()


# ---- runs and queues


async def test_a_list_of_runs_follows_its_pages(wire: Wire) -> None:
    wire.script = [
        httpx.Response(200, json={"data": [RUN], "pagination": {"next": "c1"}}),
        httpx.Response(200, json={"data": [{**RUN, "id": "run_2"}], "pagination": {}}),
    ]
    since = datetime(2026, 1, 1, tzinfo=UTC)
    found = [run.id async for run in runs.list(status=["FAILED", "CRASHED"], tag="a", is_test=False, created_from=since, page_size=1)]
    first, second = (dict(request.url.params) for request in wire.asked)
    assert found == ["run_1", "run_2"]
    assert first == {
        "page[size]": "1", "filter[status]": "FAILED,CRASHED", "filter[tag]": "a", "filter[isTest]": "false",
        "filter[createdAt][from]": "1767225600000",
    }  # fmt: skip
    assert second == {**first, "page[after]": "c1"}


def test_a_blocking_list_follows_its_pages(wire: Wire) -> None:
    wire.script = [
        httpx.Response(200, json={"data": [RUN], "pagination": {"next": "c"}}),
        httpx.Response(200, json={"data": [], "pagination": {}}),
    ]
    assert [run.id for run in sync.runs.list()] == ["run_1"]


async def test_a_run_has_its_times_and_error_as_python_values(wire: Wire) -> None:
    wire.default = lambda _: httpx.Response(
        200, json={**RUN, "status": "FAILED", "error": {"message": "no", "stackTrace": "…"}, "unknown": 1}
    )
    run = await runs.retrieve("run_1")
    assert (run.created_at, run.error and (run.error.name, run.error.message, run.error.stack)) == (
        datetime(2026, 1, 1, tzinfo=UTC),
        ("", "no", "…"),
    )


async def test_a_replay_sends_only_what_is_overridden(wire: Wire) -> None:
    await runs.replay("run_1")
    assert wire.body() == {}
    await runs.replay("run_1", None, tags=["a"])
    assert wire.body() == {"tags": ["a"], "payload": None, "payloadType": "application/json"}


async def test_a_slash_in_a_queues_name_is_encoded_twice(wire: Wire) -> None:
    state = {"id": "queue_1", "name": "a/b", "type": "custom", "running": 0, "queued": 1, "paused": True}
    wire.default = lambda _: httpx.Response(200, json=state)
    assert (await queues.pause("a/b")).paused
    assert wire.asked[0].url.raw_path == b"/api/v1/queues/a%252Fb/pause"
    assert wire.body() == {"type": "custom", "action": "pause"}
