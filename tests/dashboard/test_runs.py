"""The list of runs in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.dashboard import showcase
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


async def test_act_3_ten_thousand_runs_open_at_once_and_small(house: House) -> None:
    await house.worker()
    now = house.engine.clock.now()
    await house.engine.write(lambda tx: showcase.insert(tx, showcase.made(house.engine, house.version, 10_000, now=now, span_ms=3_600_000)))
    async with house.watch() as watched:
        await watched.page.goto(f"{house.url}/runs")
        await watched.page.wait_for_selector("tbody tr:nth-child(50)")
        assert await watched.page.locator("tbody tr").count() == 50
        assert len(watched.requests) <= 13
        answer = await house.http.get("/runs")
        assert len(answer.content) < 90_000


async def test_act_6_a_list_that_is_read_does_not_move(house: House) -> None:
    await house.worker()
    for _ in range(45):
        await house.trigger()
    async with house.page("/runs") as page:
        await page.locator("#scroll").evaluate("node => node.scrollTo(0, 300)")
        await page.locator("[name=pick]").nth(20).check()
        first = await page.locator("tbody tr").first.get_attribute("id")
        new = await house.trigger()
        pill = page.locator("#fresh")
        await expect(pill).to_contain_text("1 new run")
        assert await page.locator("tbody tr").first.get_attribute("id") == first
        assert await page.locator("#scroll").evaluate("node => node.scrollTop") == 300
        assert await page.locator("[name=pick]:checked").count() == 1
        await pill.click()
        await expect(page.locator("tbody tr").first).to_have_attribute("id", new)


async def test_act_9_no_match_differs_from_no_runs(house: House) -> None:
    async with house.page("/runs") as page:
        await expect(page.locator(".empty")).to_contain_text("No runs yet")
        await house.worker()
        await house.trigger()
        await page.goto(f"{house.url}/runs?status=FAILED&task=report")
        await expect(page.locator(".empty")).to_contain_text("No runs match")
        await page.get_by_role("link", name="Clear filters").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        typed = "box => { box.value = 'nothing like it'; box.dispatchEvent(new Event('input', {bubbles: true})); box.value = '' }"
        await page.locator("#q").evaluate(typed)  # a block that comes before the filter is applied puts the field back
        await expect(page.locator(".empty")).to_contain_text("No runs match")


async def test_act_10_one_box_finds_ids_parts_of_ids_tags_and_tasks(house: House) -> None:
    await house.worker()
    one, other = await house.trigger(tags=["user:1_0%"]), await house.trigger("report", tags=["user:2"])
    async with house.page("/runs") as page:
        box = page.get_by_placeholder("Run id, tag or task")
        for text, found in ((one, one), (other[-9:], other), ("user:1_0%", one), ("user:2", other), ("repo", other)):
            await box.fill(text)
            await expect(page.locator("tbody tr")).to_have_count(1)
            await expect(page.locator(f"#{found}")).to_be_visible()
        for text in ("%", "'--", "🙂", "user:1x0", "_"):
            await box.fill(text)
            await expect(page.locator(".empty")).to_contain_text("No runs match") if text != "_" else None


async def test_act_11_pages_lose_and_repeat_nothing_while_runs_arrive(house: House) -> None:
    await house.worker()
    known = [await house.trigger() for _ in range(120)]
    async with house.page("/runs") as page:
        seen: list[str] = []
        for turn in range(3):
            await page.locator("#scroll").evaluate("node => node.scrollTo(0, 400)")  # who reads is not moved
            seen += await page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.id)")
            await house.trigger()
            last = seen[-1]
            if turn < 2:
                await page.keyboard.press("j")
                await page.wait_for_function("last => !document.getElementById(last)", arg=last)
                await page.wait_for_load_state()  # a key that comes before the scripts is heard by nobody
        assert len(seen) == len(set(seen))
        assert set(known) <= set(seen)


async def test_act_12_without_a_mouse_a_run_is_opened_and_left_again(house: House) -> None:
    await house.worker()
    runs = [await house.trigger() for _ in range(3)][::-1]
    async with house.page("/runs") as page:
        await page.locator("body").press("ArrowDown")
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Space")
        await expect(page.locator("#picked")).to_have_text("1 selected")
        await page.keyboard.press("Escape")
        await expect(page.locator("#bulk")).to_be_hidden()
        await page.keyboard.press("Enter")
        await expect(page.locator("header .mono")).to_have_text(runs[1])
        await page.keyboard.press("Escape")
        await expect(page.locator("h1")).to_have_text("Runs")
        await expect(page.locator("tr.cur")).to_have_attribute("id", runs[1])


async def test_g_and_a_letter_go_to_every_page_and_the_help_lists_them(house: House) -> None:
    async with house.page("/runs") as page:
        for letter, title in (("h", "Overview"), ("t", "Tasks"), ("q", "Queues"), ("k", "API keys"), ("r", "Runs")):
            await page.keyboard.press("g")
            await page.keyboard.press(letter)
            await expect(page.locator("h1")).to_have_text(title)
        await page.keyboard.press("?")
        await expect(page.locator("#help")).to_contain_text("API keys")
        await page.keyboard.press("Escape")
        await page.keyboard.press("Control+k")
        await page.keyboard.type("queu")
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("Queues")


async def test_columns_are_chosen_and_remembered_by_this_browser_alone(house: House) -> None:
    await house.worker()
    run = await house.trigger(delay="2h", concurrencyKey="user-7")
    async with house.page("/runs") as page:
        await expect(page.locator("thead")).not_to_contain_text("Delayed until")
        await page.keyboard.press("l")
        for name in ("Delayed until", "Concurrency key", "Queue"):
            await page.get_by_role("checkbox", name=name).click()
            await expect(page.locator("thead th", has_text=name.replace("Concurrency key", "Key"))).to_have_count(
                0 if name == "Queue" else 1
            )
        await page.reload()
        row = page.locator(f"#{run}")
        await expect(row).to_contain_text("user-7")
        await expect(row).to_contain_text(re.compile("in [12]h"))
        await expect(row).not_to_contain_text("task/send-email")
    assert "task/send-email" in (await house.http.get("/runs", headers={"x-fragment": "live"})).text


async def test_filters_are_kept_as_a_favourite_of_all_and_forgotten(house: House) -> None:
    await house.worker()
    run = await house.trigger(tags=["user:1"])
    await house.trigger("report")
    async with house.page("/runs?task=send-email&tag=user:1") as page:
        await page.keyboard.press("Alt+f")
        await page.keyboard.type("<b>Ada's</b> mail")
        await page.keyboard.press("Enter")
        await expect(page.locator("#toasts")).to_contain_text("Kept as <b>Ada's</b> mail")
    async with house.page("/queues") as page:
        await page.keyboard.press("Control+k")
        await page.keyboard.type("ada")
        await page.locator("#palette li", has_text="favourite").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await expect(page.locator(f"#{run}")).to_be_visible()
        assert "tag=user%3A1" in page.url
        await page.keyboard.press("Alt+f")
        await page.get_by_role("button", name="Forget").click()
        await expect(page.locator("#f-favourites a")).to_have_count(0)
