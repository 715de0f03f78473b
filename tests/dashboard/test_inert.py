"""What users wrote is text, on every page; and no script but ours ever runs."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from outlast.model.manifest import QueueDefinition, TaskDefinition
from outlast.model.messages import LogLine
from outlast.store import events
from tests.dashboard.house import House
from tests.dashboard.register import TABS, bare, left_out

pytestmark = pytest.mark.asyncio(loop_scope="session")
EVIL = (
    "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>{{7*7}}'\"</textarea></script>\u202eabc\x1b[31m"
)
NAME = "a.b-c_1"
IMAGE, SCRIPT = "%3Cimg%20src%3Dx%3E", "%3Cscript%3E"


async def more(house: House) -> tuple[str, str, str]:
    """An error, a schedule and an alert, and everything else that people name: all with the same text."""
    safe = EVIL.replace("\x1b", "")
    error = (await house.http.get("/api/outlast/v1/errors")).json()["data"][0]["id"]
    await house.http.post(f"/api/outlast/v1/errors/{error}", json={"action": "ignore", "reason": safe})
    cron = {"task": "a.timed", "cron": "0 9 * * *", "timezone": "UTC", "externalId": safe[:120], "deduplicationKey": safe[:120]}
    schedule = (await house.http.post("/api/v1/schedules", json=cron)).json()["id"]
    channel = {"name": safe[:120], "type": "email", "target": "a<b>@example.com", "events": ["run.failed"]}
    answer = await house.http.post("/api/outlast/v1/alerts", json=channel)
    if answer.status_code != 200:
        answer = await house.http.post("/api/outlast/v1/alerts", json={**channel, "target": "a@example.com"})
    await house.http.post("/api/v1/bulk-actions", json={"action": "cancel", "filter": {"tag": safe[:100]}, "name": safe[:200]})
    await house.http.post("/api/v1/projects/p/envvars/dev", json={"name": "EVIL", "value": safe})
    house.runtime.new_key("dev", safe[:90])
    return error, schedule, answer.json()["id"]


async def test_act_20_no_text_of_a_user_becomes_anything_but_text(house: House) -> None:
    """security.md row 69"""
    task = TaskDefinition(
        id=NAME,
        file=EVIL,
        description=EVIL,
        payload_schema={"type": "object", "title": EVIL, "properties": {EVIL: {"type": "string", "description": EVIL}}},
    )
    await house.worker([task, TaskDefinition(id="a.timed", scheduled=True)], [QueueDefinition(name="evil")], name=EVIL[:60])
    run = await house.trigger(
        NAME,
        {"a": EVIL, EVIL: [EVIL]},
        tags=[EVIL[:100].replace("\x1b", "")],
        concurrencyKey=EVIL[:90].replace("\x1b", ""),
        metadata={"m": EVIL},
        idempotencyKey=EVIL,
    )
    await house.claim()
    await house.engine.write(
        lambda tx: events.append_logs(tx, [LogLine(run, 1, house.engine.clock.now(), "error", "logger", EVIL, {"x": EVIL})])
    )
    await house.complete(run, error=EVIL)
    token = (await house.http.post("/api/v1/waitpoints/tokens", json={"tags": [EVIL[:100].replace("\x1b", "")]})).json()["id"]
    await house.http.post(f"/api/v1/waitpoints/tokens/{token}/complete", json={"data": EVIL})
    error, schedule, alert = await more(house)
    batch = (await house.http.post(f"/api/v1/tasks/{NAME}/batch", json={"items": [{"payload": EVIL, "options": {"ttl": EVIL}}]})).json()
    queue = next(q["id"] for q in (await house.http.get("/api/v1/queues")).json()["data"] if q["name"] == NAME)
    run_url, task_url = f"/runs/{run}", f"/test/{NAME}"
    of_run = [run_url, *(f"{run_url}?tab={tab}" for tab in TABS), f"{run_url}?span=l1", f"{run_url}?span=a1"]
    others = [
        *(task_url, f"{task_url}?from={run}", f"/tasks/{NAME}", f"/queues/{queue}", f"/tokens?id={token}", f"/batches/{batch['batchId']}"),
        f"/errors/{error}",
        *(f"/deployments/{house.version}", f"/schedules/{schedule}", f"/schedules/{schedule}/edit", f"/alerts?id={alert}"),
        *(f"/schedules/new?cron={IMAGE}&task={IMAGE}", f"/bulk/new?tag={IMAGE}&q={SCRIPT}"),
        *(f"/runs?tag={IMAGE}&q={SCRIPT}", f"/logs?q={IMAGE}", f"/tokens?tag={IMAGE}", f"/{SCRIPT}"),
    ]  # fmt: skip
    paths = [*bare().values(), *of_run, *others]
    assert not left_out(paths)
    async with house.watch("404") as watched:
        page = watched.page
        for path in paths:
            await page.goto(house.url + path)
            if await page.locator("trace-view").count():
                await page.wait_for_selector(".tr")
            assert "pwned" not in await page.title(), path
            assert await page.locator("img").count() == 0, path
            assert await page.locator("script:not([src])").count() == 0, path
            assert "\u202e" not in await page.locator("main").inner_text(), path
        await page.goto(f"{house.url}/errors")
        await page.goto(f"{house.url}/errors/{error}")
        await expect(page.locator(".callout pre")).to_contain_text("<img src=x")


async def test_act_21_scripts_that_get_in_do_not_run(house: House) -> None:
    async with house.watch("Content Security Policy", "TrustedHTML", "TrustedScript") as watched:
        page = watched.page
        await page.goto(f"{house.url}/runs")
        refused = await page.evaluate(
            """() => {
                const script = document.createElement("script");
                try { script.textContent = "document.title = 'pwned'"; document.body.append(script); } catch {}
                try { document.body.insertAdjacentHTML("beforeend", "<b id=pwned></b>"); return false; }
                catch (error) { return error.name; }
            }"""
        )
        assert refused == "TypeError"
        assert await page.title() == "Runs · Outlast" and await page.locator("#pwned").count() == 0
