"""Pages in other places: behind a proxy and below its path, in another zone, with a wrong clock, with other colours, without motion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from outlast.cli import serving
from tests.browser import watched
from tests.dashboard.house import House, opened, settled
from tests.dashboard.proxy import Proxy, proxying
from tests.dashboard.register import pages
from tests.dashboard.screenshots import furnish
from tests.databases import Address

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_act_44_below_a_path_behind_a_buffering_proxy(chromium: Browser, where: Address, tmp_path: Path) -> None:
    proxy, listening = Proxy("/ops/tasks"), serving.bind("127.0.0.1", 0)
    origin = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with opened(chromium, where, tmp_path, is_open=False, public_url=f"{origin}/ops/tasks/") as house, proxying(proxy, listening):
        proxy.target = house.url
        await house.worker()
        async with watched(house.context, origin) as found:
            page = found.page
            await page.goto(f"{origin}/ops/tasks/runs?status=QUEUED")
            await page.get_by_label("API key or one-time link").fill(house.key)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.locator("#live-dot")).to_have_text("Live")
            assert page.url == f"{origin}/ops/tasks/runs?status=QUEUED"
            run = await house.trigger()
            await expect(page.locator(f"#{run}")).to_be_visible()
            await page.locator(f"#{run} .rowlink").click()
            await expect(page.locator("trace-view")).to_contain_text("Queued")
            await page.keyboard.press("c")
            await page.get_by_role("button", name="Cancel the run").click()
            await expect(page.locator("header .st")).to_have_text("Canceled")
            await page.keyboard.press("r")
            await page.keyboard.press("Control+Enter")
            await expect(page.locator("header")).to_contain_text("replayed from")
            await page.keyboard.press("Control+k")
            await page.keyboard.type("send-em")
            await page.locator("#palette li", has_text="send-email").first.click()
            await page.wait_for_url(f"{origin}/ops/tasks/tasks/send-email")
            for path in ("/queues", "/settings", "/nowhere"):
                found.allowed = ("404",)
                await page.goto(f"{origin}/ops/tasks{path}")
                await settled(page)
                outside = "links => links.map(a => a.getAttribute('href')).filter(h => h?.startsWith('/') && !h.startsWith('/ops/tasks'))"
                assert await page.locator("a").evaluate_all(outside) == []
            assert not proxy.elsewhere


async def test_act_42_times_are_right_in_another_zone_and_with_a_wrong_clock(house: House) -> None:
    await house.worker()
    run = await house.trigger()
    for skew in (-90_000, 90_000):
        context = await house.context.browser.new_context(timezone_id="Pacific/Auckland", locale="de-DE")  # type: ignore[union-attr]
        try:
            page = await context.new_page()
            await page.add_init_script(f"{{ const now = Date.now; Date.now = () => now() + {skew} }}")
            await page.goto(f"{house.url}/runs")
            time = page.locator(f"#{run} rel-time")
            await expect(time).to_have_text(re.compile(r"^\d+s ago$"))
            shown, title = await time.inner_text(), await time.get_attribute("title")
            assert 0 <= int(shown.removesuffix("s ago")) < 60, shown
            made = (await house.http.get(f"/api/v3/runs/{run}")).json()["createdAt"]
            assert title == made and made.endswith("Z")
        finally:
            await context.close()


async def moving(page: Page) -> list[str]:
    """What moves by itself, and would never stop."""
    return await page.evaluate(
        "() => document.getAnimations().filter(a => a.playState === 'running' && a.effect.getComputedTiming().iterations === Infinity)"
        ".map(a => a.animationName || a.effect.target.tagName)"
    )


@pytest.mark.full
async def test_act_40_other_colours_and_no_motion(house: House) -> None:
    """That they look well is seen in the pictures of `make screenshots`; here: nothing is lost in them."""
    paths = pages(await furnish(house))
    async with house.watch("404") as found:
        page = found.page
        await page.emulate_media(reduced_motion="reduce", forced_colors="active")
        for name, path in paths.items():
            await page.goto(house.url + path)
            await settled(page)
            assert not await moving(page), name
            icons = page.locator(".st .ic:visible")
            if await icons.count():
                box = await icons.first.bounding_box()
                assert box and box["width"] > 8, name
                ink, ground = await icons.first.evaluate(
                    "i => [getComputedStyle(i).color, getComputedStyle(document.body).backgroundColor]"
                )
                assert ink != ground, name
        await page.emulate_media(reduced_motion="no-preference", forced_colors="none")
        await page.goto(house.url + "/runs")
        await settled(page)
        assert len(set(await moving(page))) <= 1  # the ring of what executes, in steps
