"""The page of one run in a browser."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from outlast.model.messages import LogLine
from outlast.store import events
from tests.dashboard.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_act_15_cancel_asks_first_and_escape_keeps_the_run(house: House) -> None:
    await house.worker()
    run = await house.trigger()
    async with house.page(f"/runs/{run}") as page:
        await page.keyboard.press("c")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("header .st")).to_have_text("Queued")
        await page.keyboard.press("c")
        await page.get_by_role("button", name="Cancel the run").click()
        await expect(page.locator("header .st")).to_have_text("Canceled")


async def test_act_16_cancelling_a_finished_run_says_so_and_changes_nothing(house: House) -> None:
    await house.worker()
    run = await house.trigger()
    async with house.page(f"/runs/{run}") as page:
        csrf = await page.locator("meta[name=csrf]").get_attribute("content")
        await house.claim()
        await house.complete(run, 1)
        answer = await page.request.post(f"{house.url}/runs/{run}/cancel", headers={"x-csrf": csrf or ""}, data={})
        assert answer.status == 200 and "already finished" in await answer.text()
        await expect(page.locator("header .st")).to_have_text("Completed")


async def test_act_17_a_replay_has_the_edited_payload_and_names_its_origin(house: House) -> None:
    await house.worker()
    run = await house.trigger(payload={"to": "ada", "n": 2**60})
    async with house.page(f"/runs/{run}") as page:
        await page.keyboard.press("r")
        editor = page.locator("#replaying textarea")
        await editor.fill((await editor.input_value()).replace("ada", "grace"))
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("header")).to_contain_text("replayed from")
        await expect(page.locator(".insp pre").first).to_contain_text('"grace"')
        await expect(page.locator(".insp pre").first).to_contain_text(str(2**60))


async def test_a_payload_that_is_no_json_is_pointed_at_and_no_run_is_made(house: House) -> None:
    await house.worker()
    run = await house.trigger(payload={"to": "ada"})
    async with house.watch("400") as watched:
        page = watched.page
        await page.goto(f"{house.url}/runs/{run}")
        await page.keyboard.press("r")
        await page.locator("#replaying textarea").fill('{\n  "to": }')
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("#replaying .wrong")).to_contain_text("line 2, column 9")
        assert page.url.endswith(run)


async def test_act_13_lines_appear_in_the_trace_while_the_run_goes_on(house: House) -> None:
    await house.worker()
    run = await house.trigger()
    async with house.page(f"/runs/{run}") as page:
        await house.claim()
        await expect(page.locator("trace-view")).to_contain_text("Attempt 1")
        line = LogLine(run, 1, house.engine.clock.now(), "info", "logger", "half of it is done")
        await house.engine.write(lambda tx: events.append_logs(tx, [line]))
        await expect(page.locator("trace-view")).to_contain_text("half of it is done")
        await house.complete(run, error="broken pipe")
        await expect(page.locator(".callout.bad")).to_contain_text("broken pipe")
        await page.locator("trace-view").get_by_text("half of it is done").click()
        await expect(page.locator(".insp")).to_contain_text("logger")
        assert "span=l" in page.url


async def test_a_run_is_copied_as_markdown_in_which_nothing_of_a_user_is_markup(house: House) -> None:
    await house.worker()
    run = await house.trigger(payload={"to": "ada", "n": 2**60, "odd": "```\n# @all <b>"}, tags=["a|`b`", "@all"])
    await house.claim()
    await house.complete(run, error="no | such \u202e``` table")
    await house.context.grant_permissions(["clipboard-read", "clipboard-write"])
    async with house.page(f"/runs/{run}") as page:
        await page.keyboard.press("b")
        await page.get_by_role("button", name="Copy it").click()
        await expect(page.locator(".toast")).to_have_text("Copied")
        text = await page.evaluate("() => navigator.clipboard.readText()")
        assert text == await (await page.request.get(f"{house.url}/runs/{run}.md")).text()
    assert text.startswith("# `send-email`: FAILED\n") and f"| Run | `{run}` |" in text
    assert "| Tags | `` a\\|`b`, @all `` |" in text
    assert f'````json\n{{\n  "to": "ada",\n  "n": {2**60},\n  "odd": "```\\n# @all <b>"\n}}\n````' in text
    assert "````\nTraceback\nValueError: no | such ⟦202E⟧``` table\n````" in text
    assert "| attempt | `Attempt 1` |" in text
