"""What users wrote is text, on every page; and no script but ours ever runs."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from outlast.model.manifest import QueueDefinition, TaskDefinition
from outlast.model.messages import LogLine
from outlast.store import events
from tests.dashboard.house import House, settled

pytestmark = pytest.mark.asyncio(loop_scope="session")
EVIL = (
    "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>{{7*7}}'\"</textarea></script>\u202eabc\x1b[31m"
)
NAME = "a.b-c_1"


async def test_act_20_no_text_of_a_user_becomes_anything_but_text(house: House) -> None:
    """security.md row 69"""
    task = TaskDefinition(
        id=NAME,
        file=EVIL,
        description=EVIL,
        payload_schema={"type": "object", "title": EVIL, "properties": {EVIL: {"type": "string", "description": EVIL}}},
    )
    await house.worker([task], [QueueDefinition(name="evil")])
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
    batch = (await house.http.post(f"/api/v1/tasks/{NAME}/batch", json={"items": [{"payload": EVIL, "options": {"ttl": EVIL}}]})).json()
    queue = next(q["id"] for q in (await house.http.get("/api/v1/queues")).json()["data"] if q["name"] == NAME)
    tabs = ("details", "context", "metadata", "logs", "journal")
    lists = (
        "runs",
        "tasks",
        "errors",
        "logs",
        "queues",
        "tokens",
        "batches",
        "deployments",
        "workers",
        "api-keys",
        "settings",
        "%3Cscript%3E",
    )
    of_run = [f"/runs/{run}", *(f"/runs/{run}?tab={tab}" for tab in tabs), f"/runs/{run}?span=l1", f"/runs/{run}?span=a1"]
    of_task = [f"/tasks/{NAME}", f"/test/{NAME}", f"/test/{NAME}?from={run}"]
    others = [f"/queues/{queue}", f"/tokens?id={token}", f"/batches/{batch['batchId']}", "/runs?tag=%3Cimg%20src%3Dx%3E&q=%3Cscript%3E"]
    paths = ["/", *(f"/{name}" for name in lists), *of_run, *of_task, *others]
    async with house.watch("404") as watched:
        page = watched.page
        for path in paths:
            await page.goto(house.url + path)
            await settled(page)
            assert "pwned" not in await page.title(), path
            assert await page.locator("img").count() == 0, path
            assert await page.locator("script:not([src])").count() == 0, path
            assert "\u202e" not in await page.locator("main").inner_text(), path
        await page.goto(f"{house.url}/errors")
        await page.locator(".rowlink").click()
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
