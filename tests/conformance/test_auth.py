"""`auth`, `wait` and `queues` of the official client, and hostile ones."""

from __future__ import annotations

import pytest

from tests.conformance.official import Official, Threw


def test_a_public_token_sees_what_it_names_and_no_more(official: Official) -> None:
    found = official("""
        const mine = await tasks.trigger("echo", 1, { tags: ["mine"], delay: "1h" });
        const other = await tasks.trigger("echo", 2, { delay: "1h" });
        const tokens = {
            run: await auth.createPublicToken({ scopes: { read: { runs: [mine.id] } } }),
            tag: await auth.createPublicToken({ scopes: { read: { tags: ["mine"] } }, expirationTime: "1h" }),
            task: await auth.createPublicToken({ scopes: { read: { tasks: ["echo"] } }, expirationTime: new Date(Date.now() + 60_000) }),
            handle: mine.publicAccessToken,
        };
        const can = async (accessToken, call) => {
            try { await auth.withAuth({ accessToken }, call); return true; } catch (error) { return error.status; }
        };
        const seen = {};
        for (const [name, token] of Object.entries(tokens)) {
            seen[name] = [await can(token, () => runs.retrieve(mine.id)), await can(token, () => runs.retrieve(other.id)),
                          await can(token, () => runs.cancel(mine.id)), await can(token, () => tasks.trigger("echo", 1))];
        }
        let hidden;
        await auth.withAuth({ accessToken: tokens.run }, async () => { hidden = await runs.retrieve(mine.id); });
        return { seen, hidden };
        """)
    assert found["seen"] == {
        "run": [True, 403, 403, 403], "tag": [True, 403, 403, 403], "task": [True, True, 403, 403], "handle": [True, 403, 403, 403],
    }  # fmt: skip
    assert "payload" not in found["hidden"]


def test_a_trigger_token_is_good_for_one_run(official: Official) -> None:
    found = official("""
        const token = await auth.createTriggerPublicToken("echo", { expirationTime: "1h" });
        const many = await auth.createTriggerPublicToken(["echo", "describe"], { multipleUse: true });
        const group = await auth.createBatchTriggerPublicToken("echo");
        const use = async (accessToken, call) => {
            let result; 
            try { await auth.withAuth({ accessToken }, async () => { result = (await call()).id ?? "batch"; }); return "made"; }
            catch (error) { return [error.status ?? error.cause?.status, error.message]; } // of a batch it is the cause
        };
        const trigger = (id) => () => tasks.trigger(id, 1);
        return { wrong: await use(token, trigger("describe")),
                 first: await use(token, trigger("echo")), second: await use(token, trigger("echo")),
                 many: [await use(many, trigger("echo")), await use(many, trigger("describe")), await use(many, trigger("slow"))],
                 batch: await use(group, () => tasks.batchTrigger("echo", [{ payload: 1 }, { payload: 2 }])),
                 again: await use(group, () => tasks.batchTrigger("echo", [{ payload: 1 }])),
                 otherTask: await use(await auth.createBatchTriggerPublicToken("echo"), () => tasks.batchTrigger("slow", [{ payload: 1 }])),
        };
        """)
    assert (found["wrong"][0], found["first"], found["second"][0]) == (403, "made", 422)
    assert "already been used" in found["second"][1]
    assert found["many"][:2] == ["made", "made"] and found["many"][2][0] == 403
    assert (found["batch"], found["again"][0], found["otherTask"][0]) == ("made", 422, 403)


def test_items_of_a_batch_stay_within_the_tasks_of_its_token(official: Official) -> None:
    token = official("return await auth.createBatchTriggerPublicToken('echo', { multipleUse: true })")
    browser = official.bearer(token)
    made = browser.post("/api/v3/batches", json={"runCount": 1, "taskIdentifiers": ["echo"]})
    assert made.status_code == 202
    for bearer in (token, made.headers["x-trigger-jwt"]):
        refused = official.bearer(bearer).post(
            f"/api/v3/batches/{made.json()['id']}/items",
            content='{"index":0,"task":"slow"}',
            headers={"content-type": "application/x-ndjson"},
        )
        assert refused.status_code == 403
    taken = official.bearer(made.headers["x-trigger-jwt"]).post(
        f"/api/v3/batches/{made.json()['id']}/items", content='{"index":0,"task":"echo"}', headers={"content-type": "application/x-ndjson"}
    )
    assert taken.json()["sealed"] is True


def test_a_client_of_its_own_uses_its_own_server_and_key(official: Official) -> None:
    if "TriggerClient" not in official.names:
        pytest.skip("this version has no TriggerClient")
    found = official(
        "const client = new TriggerClient({ baseURL: input.url + '/', accessToken: input.key });"
        "const handle = await client.tasks.trigger('echo', 5); return await client.runs.poll(handle, { pollIntervalMs: 100 });",
        url=official.url, key=official.key,
    )  # fmt: skip
    assert found["output"] == 5


def test_wait_tokens_release_the_run_that_waits(official: Official) -> None:
    found = official("""
        const token = await wait.createToken({ timeout: "10m", tags: ["order:7", "conformance"], idempotencyKey: "conformance-token" });
        const again = await wait.createToken({ timeout: "10m", idempotencyKey: "conformance-token" });
        const handle = await tasks.trigger("approval", token.id);
        const before = await wait.retrieveToken(token.id);
        await wait.completeToken(token, { approved: true, at: new Date("2026-01-01T00:00:00Z") });
        await wait.completeToken(token, { approved: false });
        const run = await runs.poll(handle, { pollIntervalMs: 100 });
        const listed = [];
        for await (const item of wait.listTokens({ tags: ["order:7"], status: ["COMPLETED"] })) listed.push(item);
        const url = await wait.createToken({});
        const web = await tasks.trigger("approval", url.id);
        const headers = { "content-type": "application/json" };
        const answer = await fetch(url.url, { method: "POST", body: JSON.stringify({ by: "webhook" }), headers });
        const wrong = await fetch(url.url.slice(0, -1) + (url.url.endsWith("0") ? "1" : "0"), { method: "POST", body: "{}" });
        const byToken = await wait.createToken({});
        await auth.withAuth({ accessToken: byToken.publicAccessToken }, () => wait.completeToken(byToken.id, 1));
        let foreign;
        try { await auth.withAuth({ accessToken: byToken.publicAccessToken }, () => wait.completeToken(token.id, 1)); }
        catch (error) { foreign = error.status; }
        return { token, again, before, run, listed, after: await wait.retrieveToken(token.id), webStatus: answer.status, wrong: wrong.status,
                 web: (await runs.poll(web, { pollIntervalMs: 100 })).output, byToken: (await wait.retrieveToken(byToken.id)).status, foreign };
        """)
    assert found["again"]["id"] == found["token"]["id"] and found["again"]["isCached"] and found["token"]["publicAccessToken"]
    assert found["before"]["status"] == "WAITING" and found["after"]["status"] == "COMPLETED"
    assert found["run"]["output"]["approved"] is True
    assert [item["id"] for item in found["listed"]] == [found["token"]["id"]] and found["listed"][0]["tags"] == ["order:7", "conformance"]
    assert found["after"]["output"]["approved"] is True
    assert (found["webStatus"], found["wrong"], found["web"]) == (200, 401, {"by": "webhook"})
    assert (found["byToken"], found["foreign"]) == ("COMPLETED", 403)


def test_queues_are_listed_paused_and_overridden(official: Official) -> None:
    found = official("""
        const name = { type: "custom", name: "conformance/limited" };
        const all = [];
        for await (const queue of await queues.list({ perPage: 2 })) all.push(queue.name);
        const page = await queues.list({ page: 1, perPage: 2 });
        const paused = await queues.pause(name);
        const held = await tasks.trigger("slow", 1, { tags: ["held"] });
        const while_ = await queues.retrieve(name);
        const resumed = await queues.resume(name);
        await runs.cancel(held.id);
        const over = await queues.overrideConcurrencyLimit(name, 9), reset = await queues.resetConcurrencyLimit(name);
        let twice; try { await queues.resetConcurrencyLimit(name); } catch (error) { twice = error.status; }
        let above; try { await queues.overrideConcurrencyLimit(name, 90000); } catch (error) { above = error.status; }
        let none; try { await queues.retrieve("queue_none"); } catch (error) { none = error.status; }
        return { all, pages: page.pagination, paused, while_, resumed, over, reset, twice, above, none,
                 byTask: await queues.retrieve({ type: "task", name: "echo" }), byId: (await queues.retrieve(paused.id)).name };
        """)
    assert {"echo", "conformance/limited"} <= set(found["all"]) and len(found["all"]) == len(set(found["all"])) == found["pages"]["count"]
    assert (found["paused"]["paused"], found["while_"]["queued"], found["resumed"]["paused"]) == (True, 1, False)
    assert (found["over"]["concurrencyLimit"], found["reset"]["concurrencyLimit"], found["reset"]["concurrency"]["base"]) == (9, 3, 3)
    assert (found["twice"], found["above"], found["none"]) == (400, 400, 404)
    assert (found["byTask"]["type"], found["byId"]) == ("task", "conformance/limited")


@pytest.mark.parametrize("call", ["runs.retrieve('run_1')", "tasks.trigger('echo', 1)", "runs.list()"])
def test_a_forged_token_is_refused_at_once(official: Official, call: str) -> None:
    forged = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImtleV8xIn0.eyJzdWIiOiIzIiwicHViIjp0cnVlLCJzY29wZXMiOlsiYWRtaW4iXSwiZXhwIjo5OTk5OTk5OTk5fQ.AAAA"
    with pytest.raises(Threw) as thrown:
        official(f"await auth.withAuth({{accessToken: input.token}}, async () => {{ await {call} }})", token=forged, seconds=8)
    assert (thrown.value.status, thrown.value.kind) == (401, "AuthenticationError")


def test_code_runs_with_a_token_made_for_it(official: Official) -> None:
    found = official("""
        const handle = await tasks.trigger("echo", 1, { delay: "1h" });
        const done = {};
        await auth.withPublicToken({ scopes: { read: { runs: [handle.id] } } }, async () => { done.read = (await runs.retrieve(handle.id)).id; });
        await auth.withTriggerPublicToken("echo", {}, async () => { done.trigger = (await tasks.trigger("echo", 2)).id; });
        await auth.withBatchTriggerPublicToken("echo", {}, async () => { done.batch = (await tasks.batchTrigger("echo", [{ payload: 1 }])).batchId; });
        return { handle, done, count: (await batch.retrieve(done.batch)).runCount };
        """)
    assert found["done"]["read"] == found["handle"]["id"] and found["done"]["trigger"].startswith("run_") and found["count"] == 1
