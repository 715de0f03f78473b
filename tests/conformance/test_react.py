"""The example with the official React hooks, in a real browser, on another origin than the server's."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser import Watched, browser
from tests.conformance.npm import NODE, environment, install
from tests.databases import Address
from tests.end_to_end.processes import Cluster

EXAMPLE = Path(__file__).parents[2] / "examples" / "react"
STORY = "Once there was a lighthouse, and nobody had looked at it for a long time."


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def built(folder: Path) -> Path:
    install(EXAMPLE)
    vite = EXAMPLE / "node_modules" / "vite" / "bin" / "vite.js"
    done = subprocess.run(
        [NODE, str(vite), "build", "--outDir", str(folder), "--logLevel", "warn"], cwd=EXAMPLE, capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("address", ["sqlite", pytest.param("postgresql", marks=pytest.mark.full)], indirect=True)
async def test_a_page_triggers_watches_streams_and_approves(address: Address, tmp_path: Path) -> None:
    page_folder = built(tmp_path / "page")
    cluster = Cluster(tmp_path, address, project=EXAMPLE)
    try:
        _, port = cluster.server()
        cluster.worker(port, "--executors", "1")
        url = f"http://127.0.0.1:{port}"
        with served(page_folder) as origin:
            await use(origin, opened(origin, url, cluster.key))
    finally:
        cluster.stop()


def opened(origin: str, url: str, key: str) -> str:
    """The page's address, as the example's backend gives it out."""
    given = environment(OUTLAST_API_URL=url, OUTLAST_SECRET_KEY=key)
    done = subprocess.run([sys.executable, "open.py", origin], cwd=EXAMPLE, capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def use(origin: str, address: str) -> None:
    async with browser() as chromium:
        page = await chromium.new_page()
        watched = Watched(page, origin)
        await page.goto(address)
        await page.get_by_role("button", name="Tell").click()
        await page.get_by_role("button", name="Approve").wait_for()
        assert (await page.locator("blockquote").inner_text()).strip() == STORY
        assert await page.locator("progress").get_attribute("value") == "1"
        await page.get_by_role("button", name="Approve").click()
        await page.locator("#output").wait_for()
        assert await page.locator("#output").inner_text() == f"Published: {len(STORY.split())} words"
        states = (await page.locator("#states").inner_text()).split(" → ")
        waited = states.index("WAITING")
        assert "EXECUTING" in states[:waited]
        assert set(states[waited + 1 : -1]) <= {"QUEUED", "EXECUTING"}  # each for a moment, which may be passed over
        assert states[-1] == "COMPLETED"
        assert await page.get_by_role("alert").count() == 0
        assert watched.problems == []
