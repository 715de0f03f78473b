"""Everything can be done without a mouse: each act as the keys that do it, sent to a real browser one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.dashboard.house import House, settled
from tests.dashboard.register import bare, pages
from tests.dashboard.screenshots import furnish

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.full]
MOST_TABS = 80  # to what is far down a page

MARKS = {"YES": ["@#ask[open]", "Tab", "Enter"], "SEND": ["Control+Enter"]}


def acts() -> Iterator[tuple[str, str, list[str]]]:
    """(act, page, steps) of keys.txt"""
    for part in re.split(r"\n(?=\S)", Path(__file__).with_name("keys.txt").read_text().partition("\n\n")[2]):
        title, _, body = part.partition("\n")
        act, _, name = title.partition(" | ")
        steps = re.split(r"\s{2,}", body.strip())
        yield act, name, [key for step in steps for key in MARKS.get(step, [step])]


async def do(page: Page, steps: Sequence[str]) -> None:
    for step in steps:
        if step[0] == "@":
            await expect(page.locator(step[1:]).first).to_be_attached()
        elif step[0] == "=":
            await page.keyboard.type(step[1:])
        elif step[0] == ">":
            for _ in range(MOST_TABS):
                if await page.locator(f"{step[1:]}:focus").count():
                    break
                await page.keyboard.press("Tab")
            await expect(page.locator(step[1:])).to_be_focused()
        else:
            await page.keyboard.press(step)


async def test_every_act_is_done_by_keys_alone(house: House) -> None:
    ids = await furnish(house, 300)
    keyed = await house.trigger("invoices.render", {}, idempotencyKey="order-17")
    paths = {**pages(ids), "keyed": f"/runs/{keyed}", "failed": "/runs?status=FAILED", "new": "/schedules/new"}
    failed: list[str] = []
    await house.context.grant_permissions(["clipboard-write"])
    async with house.watch("404", "422") as watched:
        page = watched.page
        for act, name, steps in acts():
            try:
                await page.goto(house.url + paths[name])
                await settled(page)
                await do(page, steps)
            except Exception as error:
                failed.append(f"{act}: {str(error)[:400]}")
    assert not failed, "\n".join(failed)


FOCUSED = """() => {
    const node = document.activeElement, style = getComputedStyle(node.closest(".search") ?? node), box = node.getBoundingClientRect();
    return {
        name: node.outerHTML.slice(0, 120), dialog: Boolean(node.closest("dialog")), body: node === document.body,
        ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 || node.closest("#palette") !== null,
        seen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    };
}"""


async def test_the_focus_is_seen_wherever_tab_takes_it(house: House) -> None:
    paths = pages(await furnish(house, 100))
    wrong: list[str] = []
    async with house.watch("404") as watched:
        page = watched.page
        for name, path in paths.items():
            await page.goto(house.url + path)
            await settled(page)
            await page.locator("#main").focus()
            for _ in range(25):
                await page.keyboard.press("Tab")
                at = await page.evaluate(FOCUSED)
                if at["body"]:
                    break  # the browser's own bar
                if not (at["ring"] and at["seen"]):
                    wrong.append(f"{name}: {at}")
    assert not wrong, "\n".join(wrong)


async def test_a_dialog_keeps_the_focus_and_gives_it_back(house: House) -> None:
    """Every dialog of every page, and those that all pages have."""
    paths = pages(await furnish(house, 100))
    tried: set[str] = set()
    async with house.watch("404") as watched:
        page = watched.page
        for name, path in paths.items():
            await page.goto(house.url + path)
            await settled(page)
            openers = page.locator("main [data-act=dialog], main [data-confirm], [data-act=help], [data-act=palette]")
            for i in range(await openers.count()):
                opener = openers.nth(i)
                kind = await opener.evaluate("n => n.dataset.for ?? n.dataset.act ?? n.dataset.post.replace(/[a-z]+_\\w+/, '')")
                if kind in tried or not await opener.is_visible():
                    continue
                tried.add(kind)
                await opener.focus()
                await page.keyboard.press("Enter")
                await expect(page.locator("dialog[open]"), f"{name}: {kind}").to_have_count(1)
                for _ in range(12):
                    at = await page.evaluate(FOCUSED)
                    assert at["dialog"] or at["body"], f"{name}: {kind}: the focus left for {at['name']}"
                    await page.keyboard.press("Tab")
                await page.keyboard.press("Escape")
                await expect(page.locator("dialog[open]")).to_have_count(0)
                assert await opener.evaluate("n => n === document.activeElement"), f"{name}: {kind}: the focus was not given back"
    assert len(tried) > 12, tried


async def test_the_palette_reaches_every_page_and_everything_one_can_do_on_it(house: House) -> None:
    paths = pages(await furnish(house, 100))
    async with house.watch("404") as watched:
        page = watched.page
        for name, path in {**paths, **{f"bare {n}": p for n, p in bare().items()}}.items():
            await page.goto(house.url + path)
            await settled(page)
            wanted: list[str] = await page.evaluate(
                """() => [...document.querySelectorAll("#side a:not(.brand), main :is(button, .btn, [data-act], [data-post])")]
                    .filter(n => n.checkVisibility() && !n.closest("tbody, dialog, details.dd") && n.ariaDisabled !== "true" && !n.disabled)
                    .map(n => (n.ariaLabel ?? [...n.childNodes].filter(c => c.localName !== "kbd").map(c => c.textContent).join(" "))
                        .trim().replace(/\\s+/g, " "))"""
            )
            await page.keyboard.press("Control+k")
            await expect(page.locator("#palette li").first).to_be_visible()
            found = await page.locator("#palette li").evaluate_all("all => all.map(n => n.firstChild.textContent.trim())")
            assert not (missing := {text for text in wanted if text} - set(found)), f"{name}: {missing}"
