"""`schedules`, `envvars` and `runs.bulk`, as the official client calls them."""

from __future__ import annotations

from tests.conformance.official import Official

FINISHED = "const end = (handle) => runs.poll(handle, { pollIntervalMs: 100 });\n"


def test_schedules_are_made_once_changed_and_deleted(official: Official) -> None:
    found = official("""
        const body = { task: "tick", cron: "0 9 * * 1", timezone: "Europe/Paris", externalId: "user_7", deduplicationKey: "conformance-weekly" };
        const made = await schedules.create(body);
        const again = await schedules.create({ ...body, cron: "0 10 * * 1" });
        const off = await schedules.deactivate(made.id), on = await schedules.activate(made.id);
        const updated = await schedules.update(made.id, { task: "tick", cron: "*/5 * * * *", externalId: "user_8" });
        const listed = await schedules.list({ page: 1, perPage: 50 });
        const seen = await schedules.retrieve(made.id);
        await schedules.del(made.id);
        let gone; try { await schedules.retrieve(made.id); } catch (error) { gone = error.status; }
        let bad; try { await schedules.create({ ...body, cron: "nonsense" }); } catch (error) { bad = error.status; }
        return { made, again, off, on, updated, seen, gone, bad, ids: listed.data.map((one) => one.id), zones: (await schedules.timezones()).timezones.length };
        """)
    assert found["made"]["id"] == found["again"]["id"] and found["again"]["generator"]["expression"] == "0 10 * * 1"
    assert found["made"]["timezone"] == "Europe/Paris" and found["made"]["type"] == "IMPERATIVE" and found["made"]["nextRun"]
    assert (found["off"]["active"], found["on"]["active"]) == (False, True)
    assert found["seen"]["generator"]["expression"] == "*/5 * * * *" and found["seen"]["externalId"] == "user_8"
    assert found["made"]["id"] in found["ids"] and (found["gone"], found["bad"]) == (404, 422) and found["zones"] > 300


def test_environment_variables_are_written_and_read(official: Official) -> None:
    found = official("""
        const project = ["proj_conformance", "prod"];
        await envvars.create(...project, { name: "CONFORMANCE_A", value: "1" });
        await envvars.upload(...project, { variables: { CONFORMANCE_B: "2", CONFORMANCE_C: "3" }, override: true });
        const before = await envvars.list(...project);
        const one = await envvars.retrieve(...project, "CONFORMANCE_A");
        await envvars.del(...project, "CONFORMANCE_C");
        const after = await envvars.list(...project);
        return { one, before: before.map((v) => v.name), after: after.map((v) => v.name) };
        """)
    assert found["one"]["value"] == "1" and {"CONFORMANCE_A", "CONFORMANCE_B", "CONFORMANCE_C"} <= set(found["before"])
    assert "CONFORMANCE_C" not in found["after"]
    put = official.http.put("/api/v1/projects/proj_conformance/envvars/prod/CONFORMANCE_A", json={"value": "9"})  # the client's own fails
    assert put.status_code == 200
    assert official("return await envvars.retrieve('proj_conformance', 'prod', 'CONFORMANCE_A')")["value"] == "9"


def test_bulk_actions_replay_and_cancel_what_they_name(official: Official) -> None:
    found = official(
        FINISHED
        + """
        const first = await tasks.trigger("echo", 1, { tags: ["bulk"] }), second = await tasks.trigger("echo", 2, { tags: ["bulk"] });
        for (const handle of [first, second]) await end(handle);
        const replay = await runs.bulk.replay({ runIds: [first.id, second.id], name: "again" });
        const replayed = await runs.bulk.poll(replay.id, { pollIntervalMs: 100 });
        const waiting = await tasks.trigger("echo", 3, { delay: "1h", tags: ["bulk-wait"] });
        const cancel = await runs.bulk.cancel({ filter: { tag: "bulk-wait" } });
        const cancelled = await runs.bulk.poll(cancel.id, { pollIntervalMs: 100 });
        const listed = [];
        for await (const action of await runs.bulk.list()) listed.push(action.id);
        return { replayed, cancelled, after: (await runs.retrieve(waiting.id)).status, listed, ids: [replay.id, cancel.id],
                 made: (await runs.list({ tag: "bulk", limit: 50 })).data.length, seen: await runs.bulk.retrieve(replay.id) };
        """
    )
    assert (found["replayed"]["type"], found["replayed"]["status"], found["replayed"]["counts"]) == (
        "REPLAY", "COMPLETED", {"total": 2, "success": 2, "failure": 0},
    )  # fmt: skip
    assert (found["cancelled"]["counts"]["success"], found["after"], found["made"]) == (1, "CANCELED", 4)
    assert set(found["ids"]) <= set(found["listed"]) and found["seen"]["name"] == "again"
