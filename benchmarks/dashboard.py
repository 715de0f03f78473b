"""The dashboard: how soon pages show their rows in a real Chromium, and what open pages cost a server that works."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace
from playwright.async_api import Page

from benchmarks.house import House, cpu_seconds, queue_state, until
from benchmarks.load import Pipe, batch_body
from outlast.engine.engine import Engine
from outlast.model.run import Status
from outlast.store import journal
from outlast.store.database import Database
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite
from tests.browser import PATIENCE_MS, browser
from tests.dashboard import showcase
from tests.dashboard.viewers import Block, Viewer, looking

RUNS, SPANS, TIMES = 100_000, 5_000, 3
ENV = 3  # production, whose key the house has
DRAINED, ROUNDS = 10_000, 3
LOOKED_AT = ("/runs", "/runs?status=COMPLETED", "/", "/tasks", "/queues") * 4  # twenty pages


async def pages(house: House) -> dict[str, Any]:
    """Milliseconds until rows are on the screen: of the list, of each filter (from the click, or the last letter), of a trace."""
    run, batch = await asyncio.to_thread(furnish, house)
    found: dict[str, Any] = {"runs": RUNS, "spans": SPANS}
    async with signed_in(house) as page:
        await page.add_init_script(SHOWN)
        found["list_ms"] = await median(lambda: opened(page, f"{house.url}/runs"))
        for name, field, value in (*FILTERS, ("batch", "[name=batch]", batch), ("id", "#q", run[-12:])):
            found[f"{name}_filter_ms"] = await median(lambda field=field, value=value: filtered(page, house, field, value))
        found["trace_ms"] = await median(lambda: opened(page, f"{house.url}/runs/{run}"))
    return found


# name, field, and what is written there; nothing: it is clicked
FILTERS = (
    ("status", "[name=status][value=FAILED]", ""),
    ("common_status", "[name=status][value=COMPLETED]", ""),
    ("status_without_runs", "[name=status][value=EXECUTING]", ""),
    ("task", "[name=task][value='emails.send']", ""),
    ("period", "[name=period][value='1d']", ""),
    ("roots", "[name=roots]", ""),
    ("test", "[name=test]", ""),
    ("queue", "[name=queue]", "crm"),
    ("version", "[name=version]", "20260101.1"),
    ("no_such_version", "[name=version]", "20250101.1"),
    ("tag", "[name=tag]", "user:1003"),
    ("schedule", "[name=schedule]", "sched_1"),
    ("search_tag", "#q", "user:10"),
    ("search_nothing", "#q", "nothing like it"),
)


def furnish(house: House) -> tuple[str, str]:
    """A hundred thousand runs of a week; the id of one with five thousand steps, and of its batch."""
    database: Database = Postgres(house.database) if house.database.startswith("postgres") else Sqlite(house.folder / "outlast.db")
    try:
        engine, now = Engine(database), time.time_ns() // 1_000_000
        version, batch = "20260101.1", engine.new_id("batch", now)
        with database.transaction() as tx:
            showcase.deploy(tx, engine, version, now=now, env_id=ENV)
            showcase.insert(tx, showcase.made(engine, version, RUNS, now=now, span_ms=6 * 86_400_000, env_id=ENV))
            made, data = showcase.one(engine, version, at=now - 60_000, status=Status.COMPLETED, chance=random.Random(1), env_id=ENV)
            made, data = replace(made, batch_id=batch), replace(data, options=replace(data.options, schedule_id="sched_1"))
            showcase.insert(tx, iter([(made, data)]))
            at = made.started_at or now
            entries = [showcase.step(f"step {i}", i, at + i, at + i + 1) for i in range(SPANS)]
            journal.insert(tx, [showcase.written(made, entry) for entry in entries])
        return made.id, batch
    finally:
        database.close()


async def median(measure: Callable[[], Coroutine[Any, Any, float]]) -> int:
    await measure()  # what is counted once in a while is counted
    return round(statistics.median([await measure() for _ in range(TIMES)]))


# the page notes when its rows are first about to be painted
SHOWN = """(() => {
  const look = () => document.querySelector("tbody tr, .tr") ? (window.shownAt = performance.now()) : requestAnimationFrame(look);
  look();
})()"""


async def opened(page: Page, url: str) -> float:
    """From the beginning of the navigation."""
    await page.goto("about:blank")
    await page.goto(url, wait_until="commit")
    return await (await page.wait_for_function("() => window.shownAt", timeout=PATIENCE_MS)).json_value()


ACT = """([field, text]) => new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`${field} changed nothing`)), 10000);
  const box = document.querySelector("form[data-auto] " + field), began = performance.now(), before = location.search;
  const done = () => requestAnimationFrame(() => resolve(performance.now() - began));
  document.addEventListener("ui:shown", () => location.search !== before && done());
  box.focus();
  if (!text) return box.click();
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
})"""


async def filtered(page: Page, house: House, field: str, text: str) -> float:
    await opened(page, f"{house.url}/runs")
    await page.wait_for_selector("#live-dot[data-state=live]", timeout=PATIENCE_MS)  # its scripts have begun
    return await page.evaluate(ACT, [field, text])


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
    """10,000 no-op runs drained with nobody looking and with 20 open pages, in turns: rates, and what the server computed.

    `ratio` is of the rates, and as noisy as the machine. `cost` is not: what the server computed more, in each second of watching.
    """
    pipe, worker = await Pipe.open("127.0.0.1", house.port), house.start_worker("--executors", "1")
    await queue_state(pipe, house)
    await drained(pipe, house)
    alone, watched, seen = list[tuple[float, float]](), list[tuple[float, float]](), list[Block]()
    for _ in range(ROUNDS):
        alone.append(await drained(pipe, house))
        async with open_pages(house) as fetched:
            watched.append(await drained(pipe, house))
            seen += fetched
    pipe.close()
    house.stop(worker)
    (rate, cpu), (seen_rate, seen_cpu) = ([statistics.median(of) for of in zip(*some, strict=True)] for some in (alone, watched))
    return {
        "pages": len(LOOKED_AT), "alone": round(rate), "watched": round(seen_rate), "ratio": round(seen_rate / rate, 2),
        "alone_cpu_s": round(cpu, 2), "watched_cpu_s": round(seen_cpu, 2), "cost": round((seen_cpu - cpu) * seen_rate / DRAINED, 3),
        "blocks_fetched": len(seen), "drawn": len({block.drawing for block in seen}),
        "block_p95_ms": round(statistics.quantiles([block.ms for block in seen], n=20)[-1], 1),
    }  # fmt: skip


async def drained(pipe: Pipe, house: House) -> tuple[float, float]:
    """Runs per second, and processor seconds of the server."""
    await pipe.send("POST", "/api/v1/projects/default/prod/pause", house.key, b"{}")
    for _ in range(DRAINED // 1_000):
        await pipe.send("POST", "/api/v2/tasks/batch", house.key, batch_body(1_000))
    began, cpu = time.perf_counter(), cpu_seconds(house.processes[0].pid)
    await pipe.send("POST", "/api/v1/projects/default/prod/resume", house.key, b"{}")

    async def is_over() -> bool:
        state = await queue_state(pipe, house)
        return state["queued"] == 0 and state["running"] == 0

    await until(is_over, seconds=120)
    return DRAINED / (time.perf_counter() - began), cpu_seconds(house.processes[0].pid) - cpu


@asynccontextmanager
async def open_pages(house: House) -> AsyncIterator[list[Block]]:
    """What twenty browsers ask for; the browsers themselves run elsewhere."""
    fetched = list[Block]()

    async def follow(viewer: Viewer) -> None:
        while True:
            fetched.append(await viewer.look())

    async with looking(house.url, house.key, LOOKED_AT) as viewers:
        following = [asyncio.create_task(follow(viewer)) for viewer in viewers]
        try:
            yield fetched
        finally:
            for one in following:
                one.cancel()
            await asyncio.gather(*following, return_exceptions=True)
