"""Subscribers in a real browser: pages of Chromium that poll as the official client does there, from another origin."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page

from benchmarks.house import OUTLAST, House
from tests.browser import browser

CONTEXTS = 20  # each has connections of its own; a browser opens six to a server
PER_PAGE = 5  # and one for the preflights, which every poll has: its address is new each time

_WATCH = """
async ([url, token, runs]) => {
    window.seen = runs.map(() => ({ statuses: [], late: [] }));
    const headers = { authorization: `Bearer ${token}` };
    const time = (text) => Date.parse(text + "Z");
    const watch = async (run, mine) => {
        let have = "offset=-1", first;
        const started = new Promise((resolve) => { first = resolve; });
        const follow = async () => {
            while (mine.statuses.at(-1) !== "COMPLETED_SUCCESSFULLY") {
                const answer = await fetch(`${url}/realtime/v1/runs/${run}?log=full&${have}`, { headers });
                const messages = await answer.json();
                const now = performance.timeOrigin + performance.now();
                for (const { value, headers: { operation } } of messages.slice(0, -1)) {
                    mine.statuses.push(value.status);
                    if (operation === "update") mine.late.push(now - time(value.updatedAt));
                }
                const header = (name) => encodeURIComponent(answer.headers.get(`electric-${name}`));
                have = `live=true&offset=${header("offset")}&handle=${header("handle")}`;
                first();
            }
        };
        mine.done = follow();
        await started;
    };
    await Promise.all(runs.map((run, i) => watch(run, window.seen[i])));
}
"""
_SEEN = "Promise.all(window.seen.map(async (mine) => { await mine.done; return [mine.statuses, mine.late]; }))"


class Pages:
    """Pages that watch runs. They hold a public token, as any page should."""

    capacity = CONTEXTS * PER_PAGE

    def __init__(self, house: House, pages: list[Page], token: str) -> None:
        self._house = house
        self._pages = pages
        self._token = token

    @staticmethod
    @asynccontextmanager
    async def opened(house: House) -> AsyncIterator[Pages]:
        async with browser() as chromium:
            pages = [await (await chromium.new_context()).new_page() for _ in range(CONTEXTS)]
            yield Pages(house, pages, _token(house))

    async def watch(self, runs: list[str]) -> None:
        """Done when every page has the state of its runs, and polls for what comes."""
        for i, page in enumerate(self._pages):
            await page.evaluate(_WATCH, [self._house.url, self._token, runs[i * PER_PAGE : (i + 1) * PER_PAGE]])

    async def seen(self) -> list[tuple[list[str], list[float]]]:
        """(statuses, milliseconds from each change to the page), of each run, once it is over."""
        return [(statuses, late) for page in self._pages for statuses, late in await page.evaluate(_SEEN)]


def _token(house: House) -> str:
    code = "import outlast.sync as o; print(o.auth.create_public_token(scopes={'read': {'runs': True}}))"
    python = OUTLAST.removesuffix("outlast") + "python"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, env=house.environment()).stdout.strip()
