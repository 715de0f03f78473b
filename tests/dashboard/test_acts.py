"""Tests of a task, queues, tokens and batches in a browser."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import expect

from outlast.model.manifest import QueueDefinition, TaskDefinition
from tests.dashboard.house import House, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_act_18_a_test_is_checked_before_it_runs(house: House) -> None:
    await house.worker()
    async with house.watch("400") as watched:
        page = watched.page
        await page.goto(f"{house.url}/test/send-email")
        await page.locator("[name='f.count']").fill("many")
        await page.get_by_role("button", name="Run").click()
        await expect(page.locator(".wrong")).to_contain_text("count is not JSON")
        await page.get_by_role("link", name="JSON").click()
        editor = page.get_by_label("Payload, JSON")
        await editor.fill('{"to": "a",\n "count": }')
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".wrong")).to_contain_text("line 2, column 11")
        await editor.fill('{"count": 1}')
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".wrong")).to_contain_text('lacks "to"')
        await page.locator("[name=delay]").fill("soon")
        await editor.fill('{"to": "ada"}')
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".wrong")).to_contain_text("soon")
        await page.locator("[name=delay]").fill("")
        await page.locator("[name=tags]").fill("a, b")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("header")).to_contain_text("Queued")
        await expect(page.locator("header")).to_contain_text("test")
        run = (await house.http.get(f"/api/v3/runs/{page.url.rpartition('/')[2]}")).json()
        assert run["payload"] == {"to": "ada"} and run["tags"] == ["a", "b"] and run["isTest"]


async def test_act_19_what_is_typed_arrives_exactly(house: House) -> None:
    await house.worker()
    text = json.dumps({"n": 2**70, "to": "zwölf 🙂 ‮abc", "big": "x" * 300_000}, ensure_ascii=False)
    async with house.page("/test/report?mode=json") as page:
        await page.get_by_label("Payload, JSON").fill(text)
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("header")).to_contain_text("Queued")
        run = page.url.rpartition("/")[2]
        await expect(page.locator(".insp pre").first).to_contain_text("cut:")
        answer = await house.http.get(f"/runs/{run}/payload.json")
        assert answer.headers["content-disposition"].startswith("attachment")
        assert json.loads(answer.text) == json.loads(text)
        await house.claim()
        assert json.loads(house.claimed[run].data.payload or "") == json.loads(text)


async def test_act_22_a_paused_queue_starts_nothing_until_it_is_resumed(house: House) -> None:
    await house.worker()
    async with house.page("/queues") as page:
        row = page.locator("tr", has_text="task/send-email")
        await row.get_by_role("button", name="Pause").click()
        await expect(row).to_contain_text("Paused")
        run = await house.trigger()
        house.room(1)
        await expect(row.locator("td").nth(2)).to_have_text("1")
        assert run not in house.claimed
        await row.get_by_role("button", name="Resume").click()
        await until(lambda: run in house.claimed)
        await expect(row.locator("td").nth(3)).to_have_text("1")


async def test_act_23_an_overridden_limit_holds_and_is_taken_back(house: House) -> None:
    await house.worker(
        queues=[QueueDefinition(name="crm", concurrency_limit=4)], tasks=[TaskDefinition(id="t", queue=QueueDefinition(name="crm"))]
    )
    async with house.page("/queues") as page:
        await page.get_by_role("link", name="crm").click()
        await expect(page.locator("h1")).to_have_text("crm")
        await page.keyboard.press("o")
        await page.get_by_label("Limit").fill("1")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".tile", has_text="Limit")).to_contain_text("override")
        for _ in range(5):
            await house.trigger("t")
        house.room(10)
        await expect(page.locator(".tile", has_text="Running")).to_contain_text("1")
        await expect(page.locator("header")).to_contain_text("At capacity")
        assert len(house.claimed) == 1
        await page.keyboard.press("o")
        await page.get_by_label("Limit").fill("")
        await page.keyboard.press("Control+Enter")
        await until(lambda: len(house.claimed) == 4)


async def test_act_26_a_token_is_completed_once_by_a_person(house: House) -> None:
    token = (await house.http.post("/api/v1/waitpoints/tokens", json={"tags": ["approve"]})).json()["id"]
    async with house.watch("400") as watched:
        page = watched.page
        await page.goto(f"{house.url}/tokens")
        await page.locator(f"#{token} a").click()
        await page.locator("[name=value]").fill("{bad")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".wrong")).to_contain_text("not JSON")
        await page.locator("[name=value]").fill('{"ok": true}')
        await page.locator("h1").click()
        other = (await house.http.post("/api/v1/waitpoints/tokens", json={})).json()["id"]  # the page hears of it, and keeps what was typed
        await expect(page.locator(f"#{other}")).to_be_visible()
        await expect(page.locator("[name=value]")).to_have_value('{"ok": true}')
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(f"#{token}")).to_contain_text("Completed")
        csrf = await page.locator("meta[name=csrf]").get_attribute("content") or ""
        again = await page.request.post(f"{house.url}/tokens/{token}/complete", headers={"x-csrf": csrf}, data={"value": "2"})
        assert again.status == 200 and "already completed" in await again.text()
        assert json.loads((await house.http.get(f"/api/v1/waitpoints/tokens/{token}")).json()["output"]) == {"ok": True}


async def test_act_27_a_batch_shows_how_far_it_is(house: House) -> None:
    await house.worker()
    items = [{"payload": {"i": i}} for i in range(30)] + [{"payload": 1, "options": {"ttl": "nonsense"}}]
    batch = (await house.http.post("/api/v1/tasks/report/batch", json={"items": items})).json()["batchId"]
    async with house.page(f"/batches/{batch}") as page:
        await expect(page.locator("#progress")).to_contain_text("1 of 31")
        await expect(page.locator("main")).to_contain_text("Items that could not be triggered")
        await house.claim(10)
        for run in list(house.claimed):
            await house.complete(run, 1)
        await expect(page.locator("#progress")).to_contain_text("11 of 31")
        await page.keyboard.press("c")
        await page.get_by_role("button", name="Cancel them").click()
        await expect(page.locator("#progress")).to_contain_text("31 of 31")
        await expect(page.locator("main")).to_contain_text("20 canceled")


async def test_act_28_ticked_runs_are_cancelled_together_and_others_stay(house: House) -> None:
    await house.worker()
    keep, *runs = [await house.trigger() for _ in range(4)]
    async with house.page("/runs") as page:
        await page.get_by_label("Select all on this page").check()
        await page.locator(f"#{keep} [name=pick]").uncheck()
        await expect(page.locator("#picked")).to_have_text("3 selected")
        await page.keyboard.press("c")
        await page.get_by_role("button", name="Cancel them").click()
        for run in runs:
            await expect(page.locator(f"#{run}")).to_contain_text("Canceled")
        await expect(page.locator(f"#{keep}")).to_contain_text("Queued")


async def test_act_28_all_that_match_are_cancelled_with_a_preview_and_what_comes_later_stays(house: House) -> None:
    await house.worker()
    for _ in range(60):
        await house.trigger()
    other = await house.trigger("report")
    async with house.page("/runs?task=send-email") as page:
        await page.locator("[name=pick]").first.check()
        await page.get_by_role("link", name="or all 60 that match").click()
        await expect(page.locator("#matching")).to_have_text("60")
        await page.locator("[name=action]").select_option("cancel")
        await page.locator("[name=name]").fill("stop the mails")
        await page.keyboard.press("Control+Enter")
        row = page.locator("tbody tr").first
        await expect(row).to_contain_text("stop the mails")
        await expect(row).to_contain_text("60/60")
        await expect(row).to_contain_text("Completed")
        assert (await house.http.get(f"/api/v3/runs/{other}")).json()["status"] == "QUEUED"


async def test_act_28_a_thousand_are_cancelled_as_one_sees_until_it_is_aborted(house: House) -> None:
    await house.worker()
    items = [{"payload": i} for i in range(500)]
    for _ in range(2):
        await house.http.post("/api/v1/tasks/send-email/batch", json={"items": items})
    step = await house.upkeep_by_hand()
    async with house.page("/runs?task=send-email&status=QUEUED") as page:
        await page.locator("[name=pick]").first.check()
        await page.keyboard.press("a")
        await expect(page.locator("#matching")).to_have_text("1,000")
        await page.locator("[name=action]").select_option("cancel")
        await page.keyboard.press("Control+Enter")
        row = page.locator("tbody tr").first
        await expect(row).to_contain_text("0/1,000")
        await step()
        await expect(row).to_contain_text("200/1,000")
        await step()
        await expect(row).to_contain_text("400/1,000")
        await row.get_by_role("button", name="Abort").click()
        await expect(row).to_contain_text("Aborted")
        await step()
        await page.goto(f"{house.url}/runs?status=CANCELED")
        await expect(page.locator("#total")).to_have_text("400")


async def test_act_32_variables_are_pasted_and_a_secret_is_never_shown(house: House) -> None:
    text = "# ours\nexport A_B=1\n" + "\n".join(f"V{i}='x {i}'" for i in range(20)) + '\nTEXT="a=b # c"\n'
    async with house.watch("422", "400") as watched:
        page = watched.page
        await page.goto(f"{house.url}/env-vars")
        await page.keyboard.press("p")
        await page.locator("[name=pasted]").fill(f"{text}no variable")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".wrong")).to_contain_text("line 24 is not NAME=value")
        await page.locator("[name=pasted]").fill(text)
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("tbody tr")).to_have_count(22)
        await page.keyboard.press("n")
        await page.locator("#adding [name=name]").fill("PATH")
        await page.locator("#adding [name=value]").fill("hunter2")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".wrong")).to_contain_text("cannot be set")
        await page.locator("#adding [name=name]").fill("SMTP_PASSWORD")
        await page.locator("#adding [name=secret]").check()
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("#SMTP_PASSWORD")).to_contain_text("secret")
        await page.reload()
        assert "hunter2" not in await page.content()
        answer = (await house.http.get("/api/v1/projects/p/envvars/dev")).json()
        assert {v["name"]: v["value"] for v in answer}["TEXT"] == "a=b # c"
