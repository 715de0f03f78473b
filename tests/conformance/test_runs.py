"""`runs`, as the official client looks at them and acts on them."""

from __future__ import annotations

import pytest

from tests.conformance.official import Official, Threw

FINISHED = "const end = (handle) => runs.poll(handle, { pollIntervalMs: 100 });\n"


def test_a_list_is_paged_both_ways_and_filtered(official: Official) -> None:
    found = official(
        FINISHED
        + """
        const made = [];
        for (let n = 0; n < 5; n++) made.push((await tasks.trigger("echo", n, { tags: ["listed", "n:" + n] })).id);
        for (const id of made) await end(id);
        const failed = await end(await tasks.trigger("fails", 1, { tags: ["listed"] }));
        const all = [];
        for await (const run of runs.list({ tag: "listed", limit: 2 })) all.push(run.id);
        const first = await runs.list({ tag: "listed", limit: 2, taskIdentifier: ["echo"] });
        const second = await first.getNextPage();
        const back = await second.getPreviousPage();
        const ids = (page) => page.data.map((run) => run.id);
        const count = async (filter) => (await runs.list({ limit: 50, tag: "listed", ...filter })).data.length;
        return { made, failed: failed.id, all, first: ids(first), second: ids(second), back: ids(back), env: first.data[0].env,
            counts: {
                failed: await count({ status: "FAILED" }), completed: await count({ status: ["COMPLETED", "EXECUTING"] }),
                task: await count({ taskIdentifier: "fails" }), queue: await count({ queue: { type: "task", name: "fails" } }),
                test: await count({ isTest: true }), soon: await count({ period: "1h" }), before: await count({ to: new Date(1000) }),
                from: await count({ from: new Date(Date.now() - 3600_000) }), tag: await count({ tag: ["n:1", "n:2"] }),
                machine: await count({ machine: "large-1x" }), schedule: await count({ schedule: "sched_none" }),
            } };
        """
    )
    newest_first = [found["failed"], *reversed(found["made"])]
    assert found["all"] == newest_first
    assert (found["first"], found["second"]) == (newest_first[1:3], newest_first[3:5]) and found["back"] == found["first"]
    assert found["env"]["name"] == "prod"
    assert found["counts"] == {
        "failed": 1, "completed": 5, "task": 1, "queue": 1, "test": 0, "soon": 6, "before": 0, "from": 6, "tag": 2, "machine": 0, "schedule": 0,
    }  # fmt: skip


def test_an_unknown_status_is_refused(official: Official) -> None:
    with pytest.raises(Threw) as thrown:
        official("return await runs.list({ status: 'DONE' })")
    assert thrown.value.status == 400


def test_a_replay_runs_again_with_what_is_changed(official: Official) -> None:
    found = official(
        FINISHED
        + """
        const first = await end(await tasks.trigger("echo", { n: 1 }, { tags: ["replayed"] }));
        const again = await end(await runs.replay(first.id));
        return { first, again };
        """
    )
    assert found["again"]["output"] == {"n": 1} and found["again"]["id"] != found["first"]["id"]
    assert found["again"]["tags"] == ["replayed"]
    if official.version.startswith("4.8"):
        changed = official(
            FINISHED + "return await end(await runs.replay(input.id, { payload: { n: 2 }, tags: ['other'] }))", id=found["first"]["id"]
        )
        assert changed["output"] == {"n": 2} and changed["tags"] == ["other"]


def test_a_cancel_stops_what_executes(official: Official) -> None:
    run = official(
        FINISHED
        + """
        const handle = await tasks.trigger("slow", 1);
        while (!(await runs.retrieve(handle.id)).isExecuting) await new Promise((next) => setTimeout(next, 50));
        await runs.cancel(handle.id);
        return await end(handle);
        """
    )
    assert (run["status"], run["isCancelled"], run["isCompleted"]) == ("CANCELED", True, True)


def test_404_is_said_once(official: Official) -> None:
    for call in ("retrieve('run_none')", "cancel('run_none')", "replay('run_none')", "reschedule('run_none', {delay: '1h'})"):
        with pytest.raises(Threw) as thrown:
            official(f"return await runs.{call}", seconds=8)  # five tries would take longer
        assert thrown.value.status == 404, call


def test_what_a_run_left_behind_can_be_read_over_http(official: Official) -> None:
    run_id = official(FINISHED + "return (await end(await tasks.trigger('echo', 7))).id")
    result = official.http.get(f"/api/v1/runs/{run_id}/result").json()
    assert (result["ok"], result["id"], result["output"], result["outputType"]) == (True, run_id, "7", "application/json")
    trace = official.http.get(f"/api/v1/runs/{run_id}/trace").json()["trace"]
    assert trace["rootSpan"]["runId"] == run_id and trace["rootSpan"]["data"]["isError"] is False
    assert isinstance(official.http.get(f"/api/v1/runs/{run_id}/events").json()["events"], list)
    if official.version.startswith("4.8"):
        seen = official("return await runs.retrieveTrace(input.id)", id=run_id) if "retrieveTrace" in dir_of(official) else None
        assert seen is None or seen["trace"]["traceId"] == trace["traceId"]


def dir_of(official: Official) -> list[str]:
    return official("return Object.keys(runs)")


def test_tags_are_added_up_to_ten(official: Official) -> None:
    run_id = official("return (await tasks.trigger('echo', 1, { delay: '1h', tags: ['a'] })).id")
    path = f"/api/v1/runs/{run_id}/tags"
    assert official.http.post(path, json={"tags": ["a", "b"]}).status_code == 200
    assert official.http.post(path, json={"tags": [str(n) for n in range(9)]}).status_code == 422
    assert official.http.get(f"/api/v3/runs/{run_id}").json()["tags"] == ["a", "b"]
