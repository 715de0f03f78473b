"""Pages for everybody: axe-core finds nothing serious, nothing scrolls sideways, reading works without scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from tests.conformance.npm import install
from tests.dashboard.house import House, settled
from tests.dashboard.register import TABS, bare, pages
from tests.dashboard.screenshots import furnish

pytestmark = pytest.mark.asyncio(loop_scope="session")
FOLDER = Path(__file__).parent / "axe"
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, from npm."""
    install(FOLDER)
    return (FOLDER / "node_modules" / "axe-core" / "axe.min.js").read_text()


async def found_by(axe: str, page: Page) -> list[str]:
    """What is serious. It runs in a world of its own, where the page's policy does not reach."""
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Page.getFrameTree")
    world = await session.send("Page.createIsolatedWorld", {"frameId": tree["frameTree"]["frame"]["id"], "worldName": "axe"})
    expression = axe + "; axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)"
    said: dict[str, Any] = await session.send(
        "Runtime.evaluate",
        {"expression": expression, "contextId": world["executionContextId"], "awaitPromise": True, "returnByValue": True},
    )
    assert "exceptionDetails" not in said, said
    return [
        f"{v['id']}: {node['target']} {node['html'][:160]}"
        for v in said["result"]["value"]
        if v["impact"] in SERIOUS
        for node in v["nodes"]
    ]


async def looked_at(axe: str, page: Page, what: str, themes: Sequence[Literal["dark", "light"]]) -> list[str]:
    wrong: list[str] = []
    for theme in themes:
        await page.emulate_media(color_scheme=theme)
        wrong += [f"{what}, {theme}: {line}" for line in await found_by(axe, page)]
    return wrong


# whatever a page can open: its dialogs, its menus, and one question of those it asks
OPENERS = "main [data-act=dialog], main details.dd > summary, main header [data-confirm]"


async def opened_one_by_one(page: Page, tried: set[str]) -> AsyncIterator[str]:
    """Opens each thing a page can open that is not in `tried` yet, and closes it again."""
    openers = page.locator(OPENERS)
    for i in range(await openers.count()):
        opener = openers.nth(i)
        text = await opener.inner_text() if await opener.is_visible() else ""
        kind = f"{await page.locator('h1').inner_text()}: {text}"
        if text and kind not in tried:
            tried.add(kind)
            await opener.click()
            yield text
            await page.keyboard.press("Escape")
            await expect(page.locator("dialog[open], details.dd[open]")).to_have_count(0)


async def violations(house: House, axe: str, paths: dict[str, str], themes: Sequence[Literal["dark", "light"]], *, opened: bool) -> str:
    wrong: list[str] = []
    tried: set[str] = set()
    async with house.watch("404") as watched:
        page = watched.page
        for name, path in paths.items():
            await page.goto(house.url + path)
            await settled(page)
            wrong += await looked_at(axe, page, name, themes)
            if opened:
                async for what in opened_one_by_one(page, tried):
                    wrong += await looked_at(axe, page, f"{name}, {what} open", themes)
        for key in ("?", "Control+k", "v") if opened else ():
            await page.locator("h1").click()
            await page.keyboard.press(key)
            wrong += await looked_at(axe, page, f"after {key}", themes)
            await page.keyboard.press("Escape")
    assert not opened or len(tried) > 12, tried
    return "\n".join(wrong)


async def test_act_39_the_busiest_pages_have_no_serious_violation(house: House, axe: str) -> None:
    paths = pages(await furnish(house, 100))
    assert not await violations(house, axe, {name: paths[name] for name in ("home", "runs", "run", "test-form")}, ("dark",), opened=False)


@pytest.mark.full
async def test_act_39_no_page_has_a_serious_violation_in_either_theme(house: House, axe: str) -> None:
    """With everything on it that can be opened."""
    assert not await violations(house, axe, pages(await furnish(house, 300)), ("dark", "light"), opened=True)


@pytest.mark.full
async def test_act_39_nor_has_one_on_which_nothing_has_happened_yet(house: House, axe: str) -> None:
    assert not await violations(house, axe, bare(), ("dark", "light"), opened=False)


@pytest.mark.full
async def test_act_39_nor_has_the_way_in(locked: House, axe: str) -> None:
    async with locked.watch("401") as watched:
        page = watched.page
        await page.goto(f"{locked.url}/runs")
        wrong = await looked_at(axe, page, "login", ("dark", "light"))
        await page.keyboard.type("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        wrong += await looked_at(axe, page, "login refused", ("dark", "light"))
        await page.goto(f"{locked.url}/login/{await locked.runtime.site.gate.new_link()}")
        wrong += await looked_at(axe, page, "link", ("dark", "light"))
    assert not wrong


async def test_act_39_pages_fit_a_phone_and_have_one_heading(house: House) -> None:
    ids = await furnish(house, 300)
    async with house.watch("404") as watched:
        page = watched.page
        await page.set_viewport_size({"width": 390, "height": 800})
        for name, path in pages(ids).items():
            if name.removeprefix("run-") in TABS and name != "run-logs":
                continue
            await page.goto(house.url + path)
            await settled(page)
            assert await page.locator("h1").count() == 1, name
            assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name
        await page.get_by_role("button", name="Menu").click()
        await page.get_by_role("link", name="Queues").click()
        await expect(page.locator("h1")).to_have_text("Queues")


async def test_act_41_lists_and_runs_are_read_without_scripts(house: House) -> None:
    await house.worker()
    run = await house.trigger(payload={"to": "ada"})
    context = await house.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]
    try:
        page = await context.new_page()
        await page.goto(f"{house.url}/runs")
        await page.locator(f"#{run} a").click()
        assert '"ada"' in await page.content()
        assert "acting and live updates need it" in await page.content()
    finally:
        await context.close()
