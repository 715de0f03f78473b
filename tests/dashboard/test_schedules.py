"""Schedules in a browser."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from outlast.engine.clock import SystemClock
from outlast.model.manifest import ScheduleDefinition, TaskDefinition
from tests.dashboard.house import House, opened
from tests.databases import Address

pytestmark = pytest.mark.asyncio(loop_scope="session")
TASKS = [
    TaskDefinition(id="nightly", scheduled=True, schedule=ScheduleDefinition(cron="15 3 * * *", timezone="Europe/Berlin")),
    TaskDefinition(id="hourly", scheduled=True),
    TaskDefinition(id="plain"),
]


async def test_act_24_a_schedule_is_explained_while_it_is_typed_and_stored_when_it_is_right(house: House) -> None:
    await house.worker(TASKS)
    async with house.page("/schedules") as page:
        await page.keyboard.press("n")
        await expect(page.locator("h1")).to_have_text("New schedule")
        task, cron, zone = (page.locator(f"[name={name}]") for name in ("task", "cron", "timezone"))
        assert await task.locator("option").all_inner_texts() == ["choose one", "hourly", "nightly"]
        create = page.get_by_role("button", name="Create")
        await task.select_option("hourly")
        await cron.fill("61 * * * *")
        await expect(page.locator(".wrong")).to_contain_text("minute")
        await expect(create).to_be_disabled()
        await cron.fill("0 9 * * 1-5")
        await zone.fill("Mars/Phobos")
        await expect(page.locator(".wrong")).to_contain_text("Mars/Phobos")
        assert (await house.http.get("/api/v1/schedules")).json()["pagination"]["count"] == 1  # the declared one
        await zone.fill("Asia/Tokyo")
        await expect(page.locator(".next li")).to_have_count(5)
        shown = await page.locator(".next .mono").all_inner_texts()
        preview = await house.http.post(
            "/api/outlast/v1/schedules/preview", json={"cron": "0 9 * * 1-5", "timezone": "Asia/Tokyo", "count": 5}
        )
        assert len(preview.json()["data"]) == 5 and all(text.endswith("09:00 +09:00") for text in shown)
        await create.click()
        await expect(page.locator("header")).to_contain_text("On")
        assert (await house.http.get(f"/api/v1/schedules/{page.url.rpartition('/')[2]}")).json()["generator"]["expression"] == "0 9 * * 1-5"


class Ahead(SystemClock):
    """A clock that can be set forward."""

    ahead_ms = 0

    def now(self) -> int:
        return super().now() + self.ahead_ms


async def test_act_24_a_schedule_made_in_the_browser_fires_at_its_time(chromium: Browser, where: Address, tmp_path: Path) -> None:
    clock = Ahead()
    async with opened(chromium, where, tmp_path, clock=clock) as house:
        await house.worker(TASKS)
        async with house.page("/schedules/new?task=hourly&cron=0+9+*+*+1-5&timezone=Asia/Tokyo&overlap=allow&catchUp=none") as page:
            await page.keyboard.press("Control+Enter")
            await expect(page.locator("header")).to_contain_text("On")
            schedule = (await house.http.get(f"/api/v1/schedules/{page.url.rpartition('/')[2]}")).json()
            nominal = datetime.fromisoformat(schedule["nextRun"])
            await expect(page.locator("main")).to_contain_text("It has not fired yet")
            clock.ahead_ms = int(nominal.timestamp() * 1_000) - house.engine.clock.now() + 5_000
            await page.locator("td a.link").click()
            await page.wait_for_url("**/runs/run_*")
            made = (await house.http.get(f"/api/v3/runs/{page.url.rpartition('/')[2]}")).json()
            assert datetime.fromisoformat(made["payload"]["timestamp"]) == nominal, made


async def test_act_25_a_schedule_is_disabled_and_deleted_but_a_declared_one_is_not(house: House) -> None:
    await house.worker(TASKS)
    body = {"task": "hourly", "cron": "0 * * * *", "deduplicationKey": "one"}
    made = (await house.http.post("/api/v1/schedules", json=body)).json()["id"]
    async with house.watch("422", "404") as watched:
        page = watched.page
        await page.goto(f"{house.url}/schedules")
        row = page.locator(f"#{made}")
        await row.get_by_role("button", name="Disable").click()
        await expect(row).to_contain_text("Off")
        await row.locator(".rowlink").click()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("button", name="Delete it").click()
        await expect(page.locator("h1")).to_have_text("Schedules")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.locator(".rowlink").click()
        await expect(page.locator("main")).to_contain_text("Declared in code")
        assert await page.get_by_role("button", name="Delete").count() == 0
        declared = page.url.rpartition("/")[2]
        csrf = await page.locator("meta[name=csrf]").get_attribute("content") or ""
        refused = await page.request.post(f"{house.url}/schedules/{declared}/delete", headers={"x-csrf": csrf}, data={})
        assert refused.status == 422 and "change it in code" in await refused.text()
