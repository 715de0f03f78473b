"""A real browser: Debian's chromium, driven by Playwright. Installed when it is missing and we may."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
INSTALL_SECONDS = 600
PATIENCE_MS = 30_000  # for what must become true; nothing waits this long when all is well
expect.set_options(timeout=PATIENCE_MS)


class NoBrowser(RuntimeError):
    """There is no chromium, and it could not be installed."""


def executable() -> str:
    """The path of a chromium.

    Raises:
        NoBrowser: none is there, and Debian's package could not be installed.
    """
    if named := os.environ.get("OUTLAST_TEST_BROWSER"):
        return named
    found = _look()
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"]):
            subprocess.run(command, check=False, timeout=INSTALL_SECONDS, capture_output=True)
        found = _look()
    if found is None:
        raise NoBrowser("no chromium found: install Debian's package `chromium`, or name one in OUTLAST_TEST_BROWSER")
    return found


def _look() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=executable(), headless=True, args=FLAGS)
        try:
            yield launched
        finally:
            await launched.close()


@dataclass
class Watched:
    """A page and everything about it that must not happen."""

    page: Page
    origin: str
    problems: list[str] = field(default_factory=list[str])
    requests: list[str] = field(default_factory=list[str])
    allowed: tuple[str, ...] = ()  # parts of console messages a test expects

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self._problem(f"error: {error}"))
        self.page.on("console", lambda message: self._problem(message.text) if message.type in ("error", "warning") else None)
        self.page.on("dialog", lambda dialog: self._problem(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _problem(self, text: str) -> None:
        self.problems.append(text)

    def check(self) -> None:
        """Nothing was said on the console, nothing came from elsewhere."""
        real = [p for p in self.problems if not any(part in p for part in self.allowed)]
        foreign = [url for url in self.requests if urlsplit(url).scheme in ("http", "https") and not url.startswith(self.origin)]
        assert not real, real
        assert not foreign, foreign


@asynccontextmanager
async def watched(context: BrowserContext, origin: str) -> AsyncIterator[Watched]:
    """A page of this context; it is checked when the block is left without an error."""
    found = Watched(await context.new_page(), origin)
    yield found
    found.check()
    await found.page.close()
