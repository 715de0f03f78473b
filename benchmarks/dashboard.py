"""The dashboard: how soon pages show their rows in a real Chromium, and what open pages cost a server that works."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
from playwright.async_api import Page

from benchmarks.house import House, queue_state, until
from benchmarks.load import Pipe, batch_body
from outlast.engine.engine import Engine
from outlast.model.run import Status
from outlast.store import journal
from outlast.store.database import Database
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite
from tests.browser import browser
from tests.dashboard import showcase

RUNS, SPANS, TIMES = 100_000, 5_000, 5
ENV = 3  # production, whose key the house has
VIEWERS, DRAINED, ROUNDS = 20, 10_000, 3
HEARD = b"event: changed"


async def pages(house: House) -> dict[str, Any]:
    """Milliseconds until rows are on the screen: of the list, of a filter (its pause of 180 ms included), of a trace."""
    run = await asyncio.to_thread(furnish, house)
    found: dict[str, Any] = {"runs": RUNS, "spans": SPANS}
    async with signed_in(house) as page:
        found["list_ms"] = await median(lambda: opened(page, f"{house.url}/runs", "tbody tr"))
        for name, choose in (("status", "#fs-FAILED input"), ("task", "#f-task input")):
            found[f"{name}_filter_ms"] = await median(lambda choose=choose: filtered(page, house, choose))
        found["tag_filter_ms"] = await median(lambda: searched(page, house, "user:1003"))
        found["trace_ms"] = await median(lambda: opened(page, f"{house.url}/runs/{run}", ".tr"))
    return found


def furnish(house: House) -> str:
    """A hundred thousand runs of a week; the id of one with five thousand steps."""
    database: Database = Postgres(house.database) if house.database.startswith("postgres") else Sqlite(house.folder / "outlast.db")
    try:
        engine, now = Engine(database), time.time_ns() // 1_000_000
        with database.transaction() as tx:
            version = "20260101.1"
            showcase.insert(tx, showcase.made(engine, version, RUNS, now=now, span_ms=6 * 86_400_000, env_id=ENV))
            chance = random.Random(1)
            made, data = showcase.one(engine, version, at=now - 60_000, status=Status.COMPLETED, chance=chance, env_id=ENV)
            showcase.insert(tx, iter([(made, data)]))
            at = made.started_at or now
            entries = [showcase.step(f"step {i}", i, at + i, at + i + 1) for i in range(SPANS)]
            journal.insert(tx, [showcase.written(made, entry) for entry in entries])
        return made.id
    finally:
        database.close()


async def median(measure: Callable[[], Coroutine[Any, Any, float]]) -> int:
    await measure()  # what is counted once in a while is counted
    return round(statistics.median([await measure() for _ in range(TIMES)]))


async def opened(page: Page, url: str, wanted: str) -> float:
    await page.goto("about:blank")
    began = time.perf_counter()
    await page.goto(url, wait_until="commit")
    await page.wait_for_selector(wanted)
    return (time.perf_counter() - began) * 1_000


WHEN_SHOWN = """async act => {
  const rows = () => [...document.querySelectorAll("tbody tr")].map(row => row.id).join(), before = rows(), began = performance.now();
  act();
  while (rows() === before) await new Promise(resolve => requestAnimationFrame(resolve));
  return performance.now() - began;
}"""


async def filtered(page: Page, house: House, choose: str) -> float:
    await opened(page, f"{house.url}/runs", "tbody tr")
    return await page.evaluate(f"async box => await ({WHEN_SHOWN})(() => document.querySelector(box).click())", choose)


async def searched(page: Page, house: House, text: str) -> float:
    await opened(page, f"{house.url}/runs", "tbody tr")
    act = "() => { const box = document.querySelector('#q'); box.value = text; box.dispatchEvent(new Event('input', {bubbles: true})) }"
    return await page.evaluate(f"async text => await ({WHEN_SHOWN})({act})", text)


@asynccontextmanager
async def signed_in(house: House) -> AsyncIterator[Page]:
    async with browser() as chromium:
        page = await chromium.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(f"{house.url}/login")
        await page.get_by_label("API key or one-time link").fill(house.key)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_selector("#live")
        yield page


async def viewers(house: House) -> dict[str, Any]:
    """10,000 no-op runs drained with nobody looking and with 20 open lists of runs, in turns: the ratio of the two rates."""
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await queue_state(pipe, house)
    await drained(pipe, house)
    alone, watched, seen = list[float](), list[float](), 0
    for _ in range(ROUNDS):
        alone.append(await drained(pipe, house))
        async with open_pages(house) as fetched:
            watched.append(await drained(pipe, house))
            seen += len(fetched)
    pipe.close()
    house.stop(worker)
    ratio = statistics.median(watched) / statistics.median(alone)
    return {"pages": VIEWERS, "alone": round(max(alone)), "watched": round(max(watched)), "ratio": round(ratio, 2), "blocks_fetched": seen}


async def drained(pipe: Pipe, house: House) -> float:
    """Runs per second."""
    await pipe.send("POST", "/api/v1/projects/default/prod/pause", house.key, b"{}")
    for _ in range(DRAINED // 1_000):
        await pipe.send("POST", "/api/v2/tasks/batch", house.key, batch_body(1_000))
    began = time.perf_counter()
    await pipe.send("POST", "/api/v1/projects/default/prod/resume", house.key, b"{}")

    async def is_over() -> bool:
        state = await queue_state(pipe, house)
        return state["queued"] == 0 and state["running"] == 0

    await until(is_over, seconds=120)
    return DRAINED / (time.perf_counter() - began)


@asynccontextmanager
async def open_pages(house: House) -> AsyncIterator[list[int]]:
    """What twenty browsers ask for: the stream, and the live block again whenever it says so. The browsers themselves run elsewhere."""
    async with httpx.AsyncClient(base_url=house.url, timeout=60, limits=httpx.Limits(max_connections=None)) as http:
        answer = await http.post("/login", data={"key": house.key})
        cookie = answer.headers["set-cookie"].partition(";")[0]
        headers, fetched, listening = {"cookie": cookie, "host": f"127.0.0.1:{house.port}"}, list[int](), asyncio.Semaphore(0)

        async def look() -> None:
            known = ""
            async with http.stream("GET", "/ui/events?topics=runs", headers=headers) as stream:
                listening.release()
                async for part in stream.aiter_raw():
                    if HEARD in part:
                        block = await http.get("/runs", headers={**headers, "x-fragment": "live", "if-none-match": known})
                        known = block.headers["etag"]
                        fetched.append(len(block.content))

        pages = [asyncio.create_task(look()) for _ in range(VIEWERS)]
        for _ in pages:
            await listening.acquire()
        try:
            yield fetched
        finally:
            for one in pages:
                one.cancel()
            await asyncio.gather(*pages, return_exceptions=True)
