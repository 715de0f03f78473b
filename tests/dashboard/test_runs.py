"""The list of runs in a browser."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.dashboard.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_act_5_a_run_triggered_elsewhere_appears_without_a_reload(house: House) -> None:
    await house.worker()
    await house.trigger()
    async with house.page("/runs") as page:
        await page.evaluate("() => { window.marker = 1 }")
        run = await house.trigger()
        await expect(page.locator(f"#{run}")).to_be_visible()
        assert await page.evaluate("() => window.marker") == 1
        await expect(page.locator("#said")).to_have_text("1 new row")


async def test_act_7_a_row_changes_its_status_and_stays_the_same_row(house: House) -> None:
    await house.worker()
    run = await house.trigger()
    async with house.page("/runs") as page:
        row = page.locator(f"#{run}")
        await expect(row).to_contain_text("Queued")
        await row.evaluate("row => { row.marker = 1 }")
        await house.claim()
        await expect(row).to_contain_text("Executing")
        await house.complete(run, {"ok": True})
        await expect(row).to_contain_text("Completed")
        assert await row.evaluate("row => row.marker") == 1


async def test_act_8_statuses_are_chosen_by_keyboard_and_stand_in_the_address(house: House) -> None:
    await house.worker()
    first, second = await house.trigger(), await house.trigger()
    await house.claim()
    await house.complete(first, error="broken")
    async with house.page("/runs") as page:
        await page.keyboard.press("s")
        await page.keyboard.press("8")
        await expect(page.locator(f"#{second}")).to_have_count(0)
        await expect(page.locator(f"#{first}")).to_be_visible()
        assert "status=FAILED" in page.url
        await page.keyboard.press("Escape")
        assert await page.evaluate("() => document.activeElement.textContent.includes('Status')")
        await page.reload()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.go_back()
        await expect(page.locator("tbody tr")).to_have_count(2)
