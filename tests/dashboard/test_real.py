"""Acts in front of a real worker in its own process; and of all of it installed from a wheel."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import watched
from tests.dashboard.house import until
from tests.databases import Address
from tests.end_to_end.processes import OUTLAST, Cluster

pytestmark = pytest.mark.asyncio(loop_scope="session")
PROJECT = Path(__file__).parent / "project"
ROOT = Path(__file__).parents[2]


class Real:
    """A server and a worker, somebody signed in, and the API beside them."""

    def __init__(self, cluster: Cluster, url: str, page: Page, http: httpx.AsyncClient) -> None:
        self.cluster, self.url, self.page, self.http = cluster, url, page, http
        self.worker = cluster.processes[-1]

    async def trigger(self, task: str, payload: object) -> str:
        answer = await self.http.post(f"/api/v1/tasks/{task}/trigger", json={"payload": payload})
        return answer.json()["id"]


@asynccontextmanager
async def real(chromium: Browser, where: Address, folder: Path, project: Path, program: str = OUTLAST) -> AsyncIterator[Real]:
    cluster = Cluster(folder, where, project=project, program=program)
    context = await chromium.new_context(viewport={"width": 1440, "height": 900})
    try:
        _, port = await asyncio.to_thread(cluster.server)
        cluster.worker(port, "--executors", "1")
        url = f"http://127.0.0.1:{port}"
        async with (
            httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {cluster.key}"}, timeout=30) as http,
            watched(context, url) as found,
        ):
            await found.page.goto(f"{url}/workers")
            await found.page.get_by_label("API key or one-time link").fill(cluster.key)
            await found.page.get_by_role("button", name="Sign in").click()
            await expect(found.page.locator("tbody tr")).to_contain_text("Connected")
            yield Real(cluster, url, found.page, http)
    finally:
        await context.close()
        await asyncio.to_thread(cluster.stop)


async def watch_an_order(house: Real, folder: Path) -> None:
    """act 13: a run with lines, a wait and a child, seen while it goes on."""
    page, gate = house.page, folder / "gate"
    token = (await house.http.post("/api/v1/waitpoints/tokens", json={})).json()["id"]
    run = await house.trigger("order", {"token": token, "gate": str(gate)})
    await page.goto(f"{house.url}/runs/{run}")
    trace = page.locator("trace-view")
    for part in ("one", "two", "three"):
        await expect(trace).to_contain_text(f"line {part}")
    await expect(trace).to_contain_text("wait for a token")
    await expect(page.locator("header .st")).to_have_text("Waiting")
    await expect(page.locator(".callout .wait")).to_be_visible()
    took, width = page.locator(".tr .dur").first, "b => b.getBoundingClientRect().width"
    before, bar = await took.inner_text(), await page.locator(".tr .tr-bar").first.evaluate(width)
    await expect(took).not_to_have_text(before)
    assert await page.locator(".tr .tr-bar").first.evaluate(width) >= bar - 1
    await house.http.post(f"/api/v1/waitpoints/tokens/{token}/complete", json={"data": "yes"})
    await expect(trace.locator(".tr", has_text=re.compile(r"^\W*child"))).to_have_count(1)
    gate.touch()
    await expect(page.locator("header .st")).to_have_text("Completed")
    await expect(page.locator(".insp")).to_contain_text("packed yes")
    answer = (await house.http.get(f"/api/v3/runs/{run}")).json()
    timer = page.locator(".life run-timer").first
    shown = int(await timer.get_attribute("data-end") or 0) - int(await timer.get_attribute("data-start") or 0)
    assert abs(shown - _ms(answer["finishedAt"], answer["startedAt"])) <= 100


def _ms(later: str, earlier: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() * 1_000


async def cancel_a_busy_one(house: Real, folder: Path) -> None:
    """act 15: the worker really stops it."""
    ledger = folder / "busy"
    run = await house.trigger("busy", str(ledger))
    page = house.page
    await page.goto(f"{house.url}/runs/{run}")
    await expect(page.locator("header .st")).to_have_text("Executing")
    await until(lambda: ledger.exists() and len(ledger.read_text()) > 2)
    await page.keyboard.press("c")
    await page.keyboard.press("Escape")
    await expect(page.locator("header .st")).to_have_text("Executing")
    await page.keyboard.press("c")
    await page.get_by_role("button", name="Cancel the run").click()
    await expect(page.locator("header .st")).to_have_text("Canceled")
    await until(lambda: ledger.read_text().endswith("stopped"))


async def test_acts_13_and_15_in_front_of_a_real_worker(chromium: Browser, where: Address, tmp_path: Path) -> None:
    async with real(chromium, where, tmp_path, PROJECT) as house:
        await watch_an_order(house, tmp_path)
        await cancel_a_busy_one(house, tmp_path)


@pytest.mark.full
async def test_a_drained_worker_leaves(chromium: Browser, where: Address, tmp_path: Path) -> None:
    """It is told at its next beat, within five seconds, and ends its executors: slow on a busy machine."""
    async with real(chromium, where, tmp_path, PROJECT) as house:
        await house.page.get_by_role("button", name="Drain").click()
        await house.page.get_by_role("button", name="Drain it").click()
        await expect(house.page.locator("tbody tr")).to_contain_text("Gone", timeout=60_000)
        assert await asyncio.to_thread(house.worker.wait, 60) == 0


def installed(folder: Path) -> str:
    """`outlast` from a wheel, in an environment that does not know the source tree. What it depends on is ours."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "tests", "node_modules", "__pycache__", "build"))
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    venv.create(folder / "venv", symlinks=True, with_pip=False)
    python = folder / "venv" / "bin" / "python"
    paths = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True
    )
    libraries = Path(paths.stdout.strip())
    wheel = next(folder.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # directories named in a .pth file have their own .pth files ignored: our editable install is not seen
    (libraries / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [python, "-c", "import outlast; print(outlast.__file__)"], check=True, capture_output=True, text=True, cwd=folder
    )
    assert where.stdout.startswith(str(folder)), where.stdout
    return str(folder / "venv" / "bin" / "outlast")


@pytest.mark.full
async def test_act_43_an_installed_wheel_has_everything(chromium: Browser, where: Address, tmp_path: Path) -> None:
    program = await asyncio.to_thread(installed, tmp_path)
    project = Path(shutil.copytree(PROJECT, tmp_path / "project"))
    os.chdir(tmp_path)
    try:
        async with real(chromium, where, tmp_path, project, program) as house:
            page = house.page
            await watch_an_order(house, tmp_path)  # 13
            for i in range(60):
                await house.trigger("child", f"/nowhere/{i}")
            await page.goto(f"{house.url}/runs")  # 3
            await expect(page.locator("tbody tr")).to_have_count(50)
            await page.goto(f"{house.url}/test/child?mode=json")  # 18
            await page.get_by_label("Payload, JSON").fill('"/nowhere/at/all"')
            await page.keyboard.press("Control+Enter")
            await expect(page.locator("header")).to_contain_text("test")
            await page.goto(f"{house.url}/settings")  # 2
            await page.get_by_role("button", name="Sign out").click()
            await expect(page.get_by_label("API key or one-time link")).to_be_visible()
            await page.go_back()
            await expect(page.get_by_label("API key or one-time link")).to_be_visible()
    finally:
        os.chdir(ROOT)
