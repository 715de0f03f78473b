"""`make screenshots`: every page in both themes, from a real server; and the pictures of the README and docs.

Usage: python -m tests.dashboard.screenshots FOLDER [--docs]
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from playwright.async_api import Browser, Page

from outlast.model.manifest import QueueDefinition
from tests import browser as browsers
from tests.dashboard import showcase
from tests.dashboard.house import House, opened, settled
from tests.dashboard.register import pages
from tests.databases import Address

RUNS = 4_000
SPAN_MS = 6 * 3_600_000
LIVE = 18
DOCS = {"runs": "dark", "run": "dark", "home": "light", "test-form": "light"}  # the pictures that are committed
SIZE = {"width": 1280, "height": 800}


async def furnish(house: House, n: int = RUNS) -> dict[str, str]:
    """A server as people left it; the addresses of what has one of its own."""
    engine, now = house.engine, house.engine.clock.now()
    await house.worker(showcase.TASKS, [QueueDefinition(name="crm", concurrency_limit=5)], name="worker-1")
    await engine.write(lambda tx: showcase.insert(tx, showcase.made(engine, house.version, n, now=now - 60_000, span_ms=SPAN_MS)))
    failed = await engine.write(lambda tx: showcase.research(tx, engine, house.version, now))
    approval = (await house.http.post("/api/v1/waitpoints/tokens", json={"tags": ["approve:refund-17"], "timeout": "3d"})).json()["id"]
    waiting = await engine.write(lambda tx: showcase.approval(tx, engine, house.version, now, approval))
    batch = await house.http.post("/api/v1/tasks/contacts.sync/batch", json={"items": [{"payload": {"page": i}} for i in range(12)]})
    await house.claim(5)
    chance = random.Random(5)
    for i in range(LIVE):
        task = chance.choice([t for t in showcase.TASKS if t.kind == "async" and t.queue is None])
        await house.trigger(task.id, {"to": f"user{i}@example.com", "template": "welcome"}, tags=[f"user:{1000 + i}"])
        if i % 3:
            await house.claim()
        if i % 3 == 2:
            run = [id for id in house.claimed if house.claimed[id].run.task != "contacts.sync"][-1]
            await house.complete(run, {"sent": True}, error="SMTP 421: too many connections" if i == 11 else None)
    variables = {"DATABASE_URL": "postgresql://db.example.com/app", "LOG_LEVEL": "info"}
    await house.http.post("/api/v1/projects/p/envvars/dev/import", json={"variables": variables})
    await house.http.post("/api/v1/projects/p/envvars/dev", json={"name": "SMTP_PASSWORD", "value": "hunter2", "isSecret": True})
    await house.http.post(
        "/api/v1/bulk-actions", json={"action": "cancel", "filter": {"status": "PENDING_VERSION"}, "name": "stop what no version knows"}
    )
    token = await house.http.post("/api/v1/waitpoints/tokens", json={"timeout": "7d", "tags": ["approve:invoice-20731"]})
    await house.http.post("/api/v1/waitpoints/tokens", json={"timeout": "1h", "tags": ["approve:refund"]})
    queues = (await house.http.get("/api/v1/queues?perPage=100")).json()["data"]
    crm = next(q["id"] for q in queues if q["name"] == "crm")
    channel = {"name": "operations", "type": "email", "target": "ops@example.com", "events": ["run.failed", "queue.latency"]}
    await house.http.post("/api/outlast/v1/alerts", json=channel)
    cron = {"task": "reports.nightly", "cron": "0 9 * * 1-5", "timezone": "Asia/Tokyo", "externalId": "team-7"}
    schedule = await house.http.post("/api/v1/schedules", json={**cron, "deduplicationKey": "team-7"})
    delayed = await house.trigger("emails.send", {"to": "ada@example.com", "template": "reminder"}, delay="2h")
    error, ignored, *_ = (await house.http.get("/api/outlast/v1/errors")).json()["data"]
    await house.http.post(f"/api/outlast/v1/errors/{ignored['id']}", json={"action": "ignore", "until": "7d"})
    span = f"j1:r/step:{showcase.PARTS[-1][0]}#{len(showcase.PARTS) - 1}"
    return {
        "error": error["id"], "run": failed, "span": quote(span, safe=""), "waiting": waiting, "delayed": delayed,
        "live": next(iter(house.claimed)), "batch": batch.json()["batchId"], "token": token.json()["id"], "queue": crm,
        "schedule": schedule.json()["id"], "version": house.version,
    }  # fmt: skip


async def shoot(house: House, chromium: Browser, folder: Path, docs: Path | None) -> None:
    ids = await furnish(house)
    for theme in ("dark", "light"):
        context = await chromium.new_context(viewport=SIZE, color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        page = await context.new_page()
        for name, path in pages(ids).items():
            await page.goto(house.url + path)
            await settled(page)
            await page.screenshot(path=folder / f"{name}-{theme}.png")
            if docs is not None and DOCS.get(name) == theme:
                await page.set_viewport_size({"width": 1060, "height": 560})
                await page.screenshot(path=docs / f"{name}.png")
                await page.set_viewport_size(SIZE)  # type: ignore[arg-type]
        await menus(page, house, folder, theme)
        await narrow(page, house, folder, theme, ids)
        await context.close()


async def menus(page: Page, house: House, folder: Path, theme: str) -> None:
    await page.goto(f"{house.url}/runs")
    await settled(page)
    for key, name in (("s", "menu"), ("?", "help"), ("Control+k", "palette")):
        await page.keyboard.press(key)
        await page.screenshot(path=folder / f"runs-{name}-{theme}.png")
        await page.keyboard.press("Escape")


async def narrow(page: Page, house: House, folder: Path, theme: str, ids: dict[str, str]) -> None:
    await page.set_viewport_size({"width": 390, "height": 800})
    for name, path in (("runs", "/runs"), ("run", f"/runs/{ids['run']}"), ("home", "/")):
        await page.goto(house.url + path)
        await settled(page)
        await page.screenshot(path=folder / f"{name}-narrow-{theme}.png")


async def sign_in_page(chromium: Browser, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as data:
        async with opened(chromium, Address(f"sqlite:///{data}/outlast.db"), Path(data), is_open=False) as house:
            page = await house.context.new_page()
            await page.goto(house.url)
            await page.screenshot(path=folder / "login-dark.png")


async def main(folder: Path, docs: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        async with browsers.browser() as chromium:
            async with opened(chromium, Address(f"sqlite:///{data}/outlast.db"), Path(data)) as house:
                await shoot(house, chromium, folder, docs)
            await sign_in_page(chromium, folder)
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path("docs/pictures") if "--docs" in sys.argv else None))
