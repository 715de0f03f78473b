"""Pages for everybody: axe-core finds nothing serious, nothing scrolls sideways, reading works without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from tests.conformance.npm import install
from tests.dashboard.house import House, settled
from tests.dashboard.register import pages
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


async def violations(house: House, axe: str, names: Sequence[str], themes: Sequence[Literal["dark", "light"]]) -> str:
    paths = pages(await furnish(house, 300))
    wrong: list[str] = []
    async with house.watch("404") as watched:
        page = watched.page
        for name in names or paths:
            await page.goto(house.url + paths[name])
            await settled(page)
            for theme in themes:
                await page.emulate_media(color_scheme=theme)
                wrong += [f"{name}, {theme}: {line}" for line in await found_by(axe, page)]
    return "\n".join(wrong)


async def test_act_39_the_busiest_pages_have_no_serious_violation(house: House, axe: str) -> None:
    assert not await violations(house, axe, ("home", "runs", "run", "test-form"), ("dark",))


@pytest.mark.full
async def test_act_39_no_page_has_a_serious_violation_in_either_theme(house: House, axe: str) -> None:
    assert not await violations(house, axe, (), ("dark", "light"))


async def test_act_39_pages_fit_a_phone_and_have_one_heading(house: House) -> None:
    ids = await furnish(house, 300)
    async with house.watch("404") as watched:
        page = watched.page
        await page.set_viewport_size({"width": 390, "height": 800})
        for name, path in pages(ids).items():
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
