"""A server that is killed and comes back at the same port, with every page open: each catches up by itself and loses nothing."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from outlast.model.manifest import QueueDefinition, TaskDefinition
from outlast.model.messages import LogLine
from outlast.model.run import Status
from outlast.store import events, journal, keys, search
from tests.browser import Watched, watched
from tests.dashboard import showcase
from tests.dashboard.house import House, opened, settled
from tests.dashboard.register import pages
from tests.dashboard.screenshots import furnish
from tests.databases import Address

pytestmark = pytest.mark.asyncio(loop_scope="session")
OUTLAST = str(Path(sys.executable).parent / "outlast")
TABS = 5  # a browser has six connections to a server, and a visible page holds one
BROKEN = ("ERR_", "Failed to load", "404", "401")  # what a browser says of a server that is away, and of a page that is not there


@asynccontextmanager
async def process(folder: Path, where: Address) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A server as people start it, and its address; killed without a word when the block ends."""
    command = ["server", "--port", "0", "--data", str(folder / "data"), "--database", where.url, "--schema", where.schema]
    found = await asyncio.create_subprocess_exec(OUTLAST, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    try:
        assert found.stdout is not None
        async with asyncio.timeout(60):
            url = (await found.stdout.readline()).decode().strip().rpartition(" ")[2]
        yield found, url
    finally:
        if found.returncode is None:
            found.send_signal(signal.SIGKILL)
        await found.wait()


class Open:
    """Every page in a tab of its own, all signed in as the same person."""

    def __init__(self, url: str, tabs: dict[str, Page]) -> None:
        self.url, self.tabs = url, tabs

    async def each(self, state: str) -> None:
        for name, page in self.tabs.items():
            if name != "lost":  # it shows nothing that changes
                await expect(page.locator("#live-dot"), name).to_have_attribute("data-state", state)


@asynccontextmanager
async def tabs(chromium: Browser, url: str, key: str, paths: dict[str, str]) -> AsyncIterator[Open]:
    """Tabs are spread over several windows of one session: a browser gives a server six connections."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(await chromium.new_context())
        page = await first.new_page()
        await page.goto(f"{url}/login?next=/settings")
        await page.get_by_label("API key or one-time link").fill(key)
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("Settings")
        session: Any = await first.storage_state()
        await page.close()
        found: dict[str, Watched] = {}
        window = first
        for i, (name, path) in enumerate(paths.items()):
            if i % TABS == 0:
                window = await stack.enter_async_context(await chromium.new_context(storage_state=session, reduced_motion="reduce"))
            tab = found[name] = await stack.enter_async_context(watched(window, url))
            tab.allowed = BROKEN
            await tab.page.goto(url + path)
            await settled(tab.page)
            await tab.page.evaluate("() => { window.marker = 1 }")
        yield Open(url, {name: tab.page for name, tab in found.items()})


async def begin(tabs: dict[str, Page]) -> None:
    """What people were in the middle of."""
    for name, page in tabs.items():
        match name:
            case "runs":
                await page.locator("#scroll").evaluate("s => s.scrollTo(0, 400)")
            case "run-live":
                await page.keyboard.press("r")
                await page.locator("dialog [name=payload]").fill('{"half": "written"}')
            case "alerts" | "api-keys":
                await page.keyboard.press("n")
                await page.locator("dialog[open] [name=name]").fill("half written")
            case "test-form":
                await page.locator("[name='f.to']").fill("half written")
            case "token":
                await page.locator("[name=value]").fill('"half written"')
            case "run":
                await page.locator(".tr-pad").press("End")
            case _:
                pass


async def nothing_was_lost(tabs: dict[str, Page]) -> None:
    for name, page in tabs.items():
        assert await page.evaluate("() => window.marker") == 1, f"{name} was loaded anew"
        match name:
            case "runs":
                assert await page.locator("#scroll").evaluate("s => s.scrollTop") == 400
            case "run-live":
                await expect(page.locator("dialog[open] [name=payload]")).to_have_value('{"half": "written"}')
                await page.keyboard.press("Escape")
            case "alerts" | "api-keys":
                await expect(page.locator("dialog[open] [name=name]")).to_have_value("half written")
                await page.keyboard.press("Escape")
            case "test-form":
                await expect(page.locator("[name='f.to']")).to_have_value("half written")
                await page.locator("h1").click()
            case "test-json":  # it begins in its field, and a page holds still while somebody is in one
                await page.locator("h1").click()
            case "token":
                await expect(page.locator("[name=value]")).to_have_value('"half written"')
                await page.locator("h1").click()
            case "run":
                await expect(page.locator(".tr[aria-selected=true]")).to_have_count(1)
            case _:
                pass


async def change(house: House, ids: dict[str, str]) -> dict[str, str]:
    """Something on every page; what is then to be read there."""
    engine, http, now = house.engine, house.http, house.engine.clock.now()
    tasks = [*showcase.TASKS, TaskDefinition(id="backups.make", file="backups.py", line=3, scheduled=True)]
    await house.worker(tasks, [QueueDefinition(name="crm", concurrency_limit=5)], code="2", name="fresh-worker")
    for topic in ("workers", "deployments", "home"):  # a worker that connects by itself has the server say so
        engine.publish(1, topic)
    group = next(g for g in (await http.get("/api/outlast/v1/errors")).json()["data"] if g["id"] == ids["error"])
    failed = showcase.one(engine, house.version, at=now, status=Status.FAILED, chance=random.Random(9), task=group["task"])
    await engine.write(lambda tx: showcase.insert(tx, iter([failed])))
    fresh = await house.trigger("emails.send", {"to": "after@example.com"}, tags=["nothing-like-this"])
    synced = await house.trigger("contacts.sync", {})
    for run in (ids["live"], ids["delayed"], ids["waiting"]):
        await http.post(f"/api/v2/runs/{run}/cancel")
    line = LogLine(ids["run"], 1, now, "error", "logger", "said after the restart", None)
    await engine.write(lambda tx: events.append_logs(tx, [line]))
    run = await engine.read(lambda tx: search.one(tx, 1, ids["run"]))
    assert run is not None
    entry = showcase.step("after the restart", 9, now, now)
    await engine.write(lambda tx: journal.insert(tx, [showcase.written(run[0], entry)]))
    await http.post(f"/api/v1/runs/{ids['run']}/tags", json={"tags": ["after-the-restart"]})
    await http.put(f"/api/v1/runs/{ids['run']}/metadata", json={"metadata": {"after": "the restart"}})
    await http.post(f"/realtime/v1/streams/{ids['run']}/self/tokens/append", content='"after the restart"')
    await http.post(f"/api/v1/queues/{ids['queue']}/pause", json={"type": "id", "action": "pause"})
    await http.post(f"/api/v1/schedules/{ids['schedule']}/deactivate")
    cron = {"task": "backups.make", "cron": "0 1 * * *", "externalId": "made-after", "deduplicationKey": "made-after"}
    await http.post("/api/v1/schedules", json=cron)
    batch = (await http.post("/api/v1/tasks/emails.send/batch", json={"items": [{"payload": {}}]})).json()["batchId"]
    await http.post("/api/v1/bulk-actions", json={"action": "cancel", "filter": {"batch": ids["batch"]}, "name": "after the restart"})
    token = (await http.post("/api/v1/waitpoints/tokens", json={})).json()["id"]
    await http.post(f"/api/v1/waitpoints/tokens/{ids['token']}/complete", json={"data": 1})
    await http.post(
        "/api/outlast/v1/alerts", json={"name": "night watch", "type": "email", "target": "n@example.com", "events": ["run.failed"]}
    )
    await http.post("/api/v1/projects/p/envvars/dev", json={"name": "AFTER_RESTART", "value": "1"})
    house.runtime.new_key("dev", "made after the restart")
    engine.publish(1, "keys")
    shown = f"…{fresh[-8:]}"
    of_run = ("run-details", "run-context", "run-metadata", "run-logs", "run-streams", "run-journal", "run-markdown")
    return {
        "home": shown, "task": shown, "no-match": shown, "runs": "new run", "tasks": "backups.make", "test": "backups.make",
        "logs": line.message, "run": line.message, **dict.fromkeys(of_run, "after"), "run-waiting": "Canceled", "run-live": "Canceled",
        "run-delayed": "Canceled", "test-form": "after@example.com", "test-json": "after@example.com", "queues": "Paused",
        "queue": f"…{synced[-8:]}", "schedules": "made-after", "schedule": "Off", "schedule-new": "backups.make",
        "schedule-edit": "backups.make", "batches": f"…{batch[-12:]}", "batch": "canceled", "tokens": f"…{token[-12:]}",
        "token": "Completed", "bulk": "after the restart", "deployments": house.version, "workers": "fresh-worker",
        "alerts": "night watch", "env-vars": "AFTER_RESTART", "api-keys": "made after the restart",
    }  # fmt: skip


# pages whose only change is a number or a word that goes: that they are drawn anew is what shows it
COUNTS = {"errors", "error", "bulk-new", "settings", "deployment"}
STILL = {"lost", "run-span"}  # what is over stays as it was


async def recovers(chromium: Browser, where: Address, folder: Path, names: Sequence[str] = ()) -> None:
    async with opened(chromium, where, folder, is_open=False) as house:
        ids, key = await furnish(house, 300), house.key
    paths = {name: path for name, path in pages(ids).items() if not names or name in names}
    async with AsyncExitStack() as stack:
        server, url = await stack.enter_async_context(process(folder, where))
        found = await stack.enter_async_context(tabs(chromium, url, key, paths))
        await begin(found.tabs)
        before = {name: await found.tabs[name].locator("#live").inner_text() for name in COUNTS & paths.keys()}
        server.send_signal(signal.SIGKILL)
        await server.wait()
        await found.each("connecting")
        async with opened(chromium, where, folder, is_open=False, port=urlsplit(url).port or 0) as house:
            await found.each("live")
            await nothing_was_lost(found.tabs)
            said = await change(house, ids)
            for name, page in found.tabs.items():
                if name in said:
                    await expect(page.locator("#live"), name).to_contain_text(said[name])
                elif name in COUNTS:
                    await expect(page.locator("#live"), name).not_to_have_text(before[name], use_inner_text=True)
                else:
                    assert name in STILL, f"what changes on {name}?"
            await found.each("live")


async def test_act_35_open_pages_recover_from_a_killed_server(chromium: Browser, where: Address, tmp_path: Path) -> None:
    await recovers(chromium, where, tmp_path, ("runs", "run", "run-live"))


@pytest.mark.full
async def test_act_35_every_page_recovers_from_a_killed_server(chromium: Browser, where: Address, tmp_path: Path) -> None:
    await recovers(chromium, where, tmp_path)


async def test_an_open_page_still_acts_when_its_server_was_started_again(chromium: Browser, where: Address, tmp_path: Path) -> None:
    """In development, where nobody signs in."""
    async with opened(chromium, where, tmp_path) as house:
        await house.worker()
        run, url = await house.trigger(), house.url
        context = await chromium.new_context()
        page = await context.new_page()
        await page.goto(f"{url}/runs/{run}")
        await settled(page)
    async with opened(chromium, where, tmp_path, port=urlsplit(url).port or 0):
        await expect(page.locator("#live-dot")).to_have_attribute("data-state", "live")
        await page.keyboard.press("c")
        await page.get_by_role("button", name="Cancel the run").click()
        await expect(page.locator("header .st")).to_have_text("Canceled")
    await context.close()


@pytest.mark.full
async def test_an_open_page_asks_who_is_there_when_its_key_is_revoked(locked: House) -> None:
    """security.md row 85"""
    found = await locked.engine.read(lambda tx: keys.find(tx, locked.key))
    assert found is not None
    async with tabs(locked.context.browser, locked.url, locked.key, {"runs": "/runs?status=FAILED"}) as open_:  # type: ignore[arg-type]
        await locked.engine.write(lambda tx: keys.revoke(tx, found.id, locked.engine.clock.now()))
        locked.runtime.site.forget_keys()
        page = open_.tabs["runs"]
        await expect(page.get_by_label("API key or one-time link")).to_be_visible()
        assert page.url.endswith("/login?next=%2Fruns%3Fstatus%3DFAILED")
