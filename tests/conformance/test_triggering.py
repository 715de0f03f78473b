"""`tasks` and `batch`, as the official client calls them, and what became of the runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.official import Official, Threw

FINISHED = "const end = (handle) => runs.poll(handle, { pollIntervalMs: 100 });\n"


def test_a_triggered_task_runs_and_its_output_comes_back(official: Official) -> None:
    run = official(FINISHED + "return await end(await tasks.trigger('echo', {a: [1, 'x', null]}))")
    assert run["status"] == "COMPLETED" and run["output"] == {"a": [1, "x", None]} and run["isSuccess"]
    assert run["payload"] == {"a": [1, "x", None]} and run["attemptCount"] == 1 and run["finishedAt"]


def test_values_arrive_in_python_as_what_they_were_and_come_back(official: Official) -> None:
    found = official(
        FINISHED
        + """
        const payload = {
            date: new Date("2026-01-02T03:04:05.678Z"), map: new Map([["k", 1n]]), set: new Set([1]), big: 12345678901234567890n,
            nothing: undefined, error: new TypeError("m"), pattern: /a+/g, url: new URL("https://a.example/x"), number: -Infinity,
            text: "é\\u0000😀", list: [true, 1.5],
        };
        const shared = { n: 1 };
        const described = await end(await tasks.trigger("describe", payload));
        const echoed = await end(await tasks.trigger("echo", { ...payload, number: 1, one: shared, two: shared }));
        const row = echoed.output;
        const texts = [];
        for (const text of ["", "plain", '"quoted"', "a\\u0000b"]) texts.push((await end(await tasks.trigger("echo", text))).output ?? null);
        return { types: described.output, same: row.text === payload.text, list: row.list, date: row.date, texts };
        """
    )
    assert found["types"] == {
        "date": "datetime", "map": "dict", "set": "set", "big": "int", "nothing": "NoneType", "error": "dict", "pattern": "str",
        "url": "str", "number": "float", "text": "str", "list": "list",
    }  # fmt: skip
    assert found["same"] and found["list"] == [True, 1.5] and found["date"] == "2026-01-02T03:04:05.678Z"
    assert found["texts"][1:] == ["plain", '"quoted"', "a\x00b"]


def test_options_reach_the_run(official: Official) -> None:
    run = official(
        FINISHED
        + """
        const handle = await tasks.trigger("context", null, {
            tags: ["conformance:options", "b"], metadata: { plan: "pro" }, queue: "conformance/limited", concurrencyKey: "tenant-7",
            maxAttempts: 5, maxDuration: 60, machine: "small-2x", priority: 10, ttl: "10m", idempotencyKey: "raw-key", idempotencyKeyTTL: "1h",
        });
        return await end(handle);
        """
    )
    assert run["output"]["queue"] == "conformance/limited" and run["output"]["tags"] == ["conformance:options", "b"]
    assert run["metadata"] == {"plan": "pro"} and run["tags"] == ["b", "conformance:options"] and run["ttl"] == "10m"
    assert run["idempotencyKey"] == "raw-key"


def test_a_delayed_run_waits_is_moved_and_cancelled(official: Official) -> None:
    found = official("""
        const handle = await tasks.trigger("echo", 1, { delay: "1h" });
        const before = await runs.retrieve(handle);
        const moved = await runs.reschedule(handle.id, { delay: new Date(Date.now() + 7200_000) });
        await runs.cancel(handle.id);
        await runs.cancel(handle.id);
        return { before, moved, after: await runs.retrieve(handle.id) };
        """)
    assert found["before"]["status"] == found["moved"]["status"] == "DELAYED"
    assert found["moved"]["delayedUntil"] > found["before"]["delayedUntil"]
    assert found["after"]["status"] == "CANCELED" and found["after"]["isCancelled"]


def test_an_idempotency_key_makes_one_run_until_it_is_reset(official: Official) -> None:
    found = official(
        FINISHED
        + """
        const key = await idempotencyKeys.create(["conformance", "one"], { scope: "global" });
        const first = await tasks.trigger("echo", 1, { idempotencyKey: key });
        const again = await tasks.trigger("echo", 2, { idempotencyKey: key });
        const other = await tasks.trigger("describe", {}, { idempotencyKey: key });
        const failed = await tasks.trigger("fails", 1, { idempotencyKey: key });
        await end(failed);
        const afterFailure = await tasks.trigger("fails", 2, { idempotencyKey: key });
        return { first: first.id, again, other: other.id, failed: failed.id, afterFailure };
        """
    )
    assert found["again"]["id"] == found["first"] and found["again"]["isCached"]
    assert len({found["first"], found["other"], found["failed"], found["afterFailure"]["id"]}) == 4
    assert not found["afterFailure"]["isCached"]


def test_a_failure_is_told_by_name_message_and_stack(official: Official) -> None:
    found = official(
        FINISHED
        + """
        return { failed: await end(await tasks.trigger("fails", "x")), aborted: await end(await tasks.trigger("aborts", 1)),
                 invalid: await end(await tasks.trigger("validated-task", { email: "nobody", age: -1 })) };
        """
    )
    error = found["failed"]["error"]
    assert (error["name"], error["message"]) == ("ValueError", "refused: x") and "work.py" in error["stackTrace"]
    assert found["failed"]["status"] == "FAILED" and found["failed"]["isFailed"] and "output" not in found["failed"]
    assert found["aborted"]["error"]["message"] == "impossible" and found["aborted"]["attemptCount"] == 1
    assert "validated-task" in found["invalid"]["error"]["message"] and found["invalid"]["attemptCount"] == 1


@pytest.mark.parametrize(
    ("call", "status", "kind"),
    [
        ("tasks.trigger('no task', 1)", 404, "NotFoundError"),
        ("tasks.trigger('echo', 1, {tags: [...Array(11).keys()].map(String)})", 422, "UnprocessableEntityError"),
        ("tasks.trigger('echo', 1, {version: '20000101.1'})", 422, "UnprocessableEntityError"),
        ("tasks.trigger('echo', 1, {delay: 'soon'})", 400, "BadRequestError"),
        ("tasks.trigger('echo', 'x'.repeat(3 * 1024 * 1024 + 1))", 413, None),
        ("auth.withAuth({accessToken: 'tr_prod_sk_000000000000000000000000'}, () => tasks.trigger('echo', 1))", 401, "AuthenticationError"),
    ],
)
def test_refusals_are_the_clients_own_errors_at_once(official: Official, call: str, status: int, kind: str | None) -> None:
    with pytest.raises(Threw) as thrown:
        official(f"return await {call}", seconds=20)
    assert thrown.value.status == status and (kind is None or thrown.value.kind == kind)


def test_a_retry_of_the_same_request_makes_one_run(official: Official) -> None:
    headers = {"x-trigger-request-idempotency-key": "conformance-request"}
    answers = [official.http.post("/api/v1/tasks/echo/trigger", json={"payload": 1}, headers=headers).json() for _ in range(2)]
    assert answers[0] == answers[1] and answers[0]["isCached"] is False


def test_batches_run_every_item_in_order(official: Official) -> None:
    found = official(
        FINISHED
        + """
        const one = await tasks.batchTrigger("echo", [1, 2, 3].map((n) => ({ payload: { n }, options: { tags: ["batch:" + n] } })));
        const mixed = await batch.trigger([{ id: "echo", payload: "a" }, { id: "describe", payload: { d: new Date() } }]);
        const streamed = await tasks.batchTrigger("echo", (async function* () { for (let n = 0; n < 25; n++) yield { payload: n }; })());
        const state = await batch.retrieve(one.batchId);
        const outputs = [];
        for (const id of state.runs) outputs.push((await end(id)).output);
        for (const id of (await batch.retrieve(mixed.batchId)).runs) outputs.push((await end(id)).output);
        const many = await batch.retrieve(streamed.batchId);
        for (const id of many.runs) await end(id);
        return { one, state, outputs, many, done: await batch.retrieve(streamed.batchId), again: await batch.retrieve(one.batchId) };
        """
    )
    assert found["one"]["runCount"] == 3 and found["one"]["publicAccessToken"].count(".") == 2
    assert found["outputs"] == [{"n": 1}, {"n": 2}, {"n": 3}, "a", {"d": "datetime"}]
    assert (found["many"]["runCount"], len(found["many"]["runs"]), found["done"]["status"]) == (25, 25, "COMPLETED")
    assert found["again"]["status"] == "COMPLETED" and found["again"]["runs"] == found["state"]["runs"]


def test_a_batch_with_a_key_is_made_once(official: Official) -> None:
    found = official("""
        const key = await idempotencyKeys.create("conformance-batch", { scope: "global" });
        const items = [{ payload: 1 }, { payload: 2 }];
        const first = await tasks.batchTrigger("echo", items, { idempotencyKey: key });
        const again = await tasks.batchTrigger("echo", items, { idempotencyKey: key });
        return [(await batch.retrieve(first.batchId)).runs, (await batch.retrieve(again.batchId)).runs];
        """)
    assert len(found[0]) == 2 and found[0] == found[1]


def test_one_bad_item_is_named_and_its_neighbours_run(official: Official) -> None:
    state = official("""
        const made = await batch.trigger([{ id: "echo", payload: 1 }, { id: "echo", payload: 2, options: { maxAttempts: 999 } }]);
        return await batch.retrieve(made.batchId);
        """)
    [error] = state["processing"]["errors"]
    assert (error["index"], error["taskIdentifier"], len(state["runs"])) == (1, "echo", 1) and "maxAttempts" in error["error"]


def test_large_payloads_and_outputs_take_the_way_by_storage(official: Official) -> None:
    found = official(
        FINISHED
        + """
        const payload = { text: "x".repeat(400_000), at: new Date("2026-01-01T00:00:00Z") };
        const run = await end(await tasks.trigger("echo", payload));
        const large = await end(await tasks.trigger("large", 300_000));
        const many = await tasks.batchTrigger("echo", [{ payload }, { payload: 1 }]);
        const [first] = (await batch.retrieve(many.batchId)).runs;
        return { text: run.output.text.length, at: run.output.at, isDate: run.output.at instanceof Date, sent: run.payload.text.length,
                 large: large.output.length, batch: (await end(first)).output.text.length };
        """
    )
    assert found == {"text": 400_000, "at": "2026-01-01T00:00:00.000Z", "isDate": True, "sent": 400_000, "large": 300_000, "batch": 400_000}


def test_the_retries_of_an_item_stream_add_nothing(official: Official) -> None:
    made = official.http.post("/api/v3/batches", json={"runCount": 3}).json()
    path, headers = f"/api/v3/batches/{made['id']}/items", {"content-type": "application/x-ndjson"}
    lines = [f'{{"index":{n},"task":"echo","payload":"{n}"}}\n' for n in range(3)]
    part = official.http.post(path, content="".join(lines[:2]), headers=headers).json()
    assert part == {"id": made["id"], "itemsAccepted": 2, "itemsDeduplicated": 0, "sealed": False, "enqueuedCount": 2, "expectedCount": 3}
    whole = official.http.post(path, content="".join(lines), headers=headers).json()
    assert (whole["itemsAccepted"], whole["itemsDeduplicated"], whole["sealed"]) == (1, 2, True)
    again = official.http.post(path, content="".join(lines), headers=headers).json()
    assert (again["itemsAccepted"], again["itemsDeduplicated"], again["sealed"]) == (0, 3, True)
    runs: list[Any] = official.http.get(f"/api/v2/batches/{made['id']}").json()["runs"]
    assert len(runs) == 3


def test_keys_are_given_back(official: Official) -> None:
    found = official("""
        const key = await idempotencyKeys.create("conformance-reset", { scope: "global" });
        const first = await tasks.trigger("echo", 1, { idempotencyKey: key });
        const reset = await idempotencyKeys.reset("echo", key);
        const second = await tasks.trigger("echo", 1, { idempotencyKey: key });
        let none; try { await idempotencyKeys.reset("describe", key); } catch (error) { none = error.status; }
        return { first, second, reset, key: String(key), none };
        """)
    assert found["first"]["id"] != found["second"]["id"] and not found["second"]["isCached"]
    assert (found["reset"]["id"], found["none"]) == (found["key"], 404)


def test_batches_by_task_object_and_deployments(official: Official) -> None:
    found = official(
        FINISHED
        + """
        const echo = task({ id: "echo", run: async () => {} }), describe = task({ id: "describe", run: async () => {} });
        const made = await batch.triggerByTask([{ task: echo, payload: 1 }, { task: describe, payload: {} }]);
        const [first] = (await batch.retrieve(made.batchId)).runs;
        const listed = [];
        for await (const deployment of deployments.list({ status: "DEPLOYED", period: "1h" })) listed.push(deployment);
        return { output: (await end(first)).output, count: made.runCount, current: await deployments.retrieveCurrent(), listed };
        """
    )
    assert (found["output"], found["count"]) == (1, 2)
    assert found["current"]["runtime"] == "python" and found["current"] in found["listed"]
