"""A server with a browser in front of it, and a worker's part played where a run must stand still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from playwright.async_api import Browser, BrowserContext, Page

from outlast.cli import serving
from outlast.engine import attempts, sessions
from outlast.engine.claim import Claimed, Demand
from outlast.engine.clock import Clock
from outlast.model.failure import Failure
from outlast.model.manifest import Manifest, QueueDefinition, TaskDefinition
from outlast.model.requests import Beats, Complete, OpenSession
from outlast.model.result import Result, encode_failure
from outlast.server.runtime import Options, Runtime
from tests.browser import Watched, watched
from tests.databases import Address

SCHEMA = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "count": {"type": "integer"}, "urgent": {"type": "boolean"}},
    "required": ["to"],
}
TASKS = [
    TaskDefinition(id="send-email", file="emails.py", line=12, payload_schema=SCHEMA),
    TaskDefinition(id="report", file="reports.py", line=3),
]


class House:
    """Runs stand still unless a test moves them: its worker claims only what `claim` asks for."""

    def __init__(self, runtime: Runtime, url: str, context: BrowserContext) -> None:
        self.runtime = runtime
        self.url = url
        self.context = context
        self.key = runtime.new_key("dev", "test")
        self.http = httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {self.key}"}, timeout=30)
        self.session = ""
        self.version = ""
        self.claimed: dict[str, Claimed] = {}
        self._free = 0
        self._beating: asyncio.Task[None] | None = None

    @property
    def engine(self):
        return self.runtime.engine

    async def worker(
        self, tasks: list[TaskDefinition] | None = None, queues: list[QueueDefinition] | None = None, *, code: str = "1", name: str = "w"
    ) -> None:
        """Another `code` is another version."""
        manifest = Manifest(python="3.11", content_hash=code, tasks=tasks or TASKS, queues=queues or [])
        item = OpenSession(env_id=1, server_id="s", worker=name, boot_id="b", manifest=manifest)
        opened_session = await self.engine.call(sessions.open_session, item)
        self.session, self.version = opened_session.session, opened_session.version
        self._beating = asyncio.create_task(self._beat())
        self.engine.demand = self._demand
        self.engine.deliver = lambda found: self.claimed.update({c.run.id: c for c in found})

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(5)
            await self.engine.call(sessions.beat, Beats(session=self.session))

    async def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        await self.http.aclose()

    async def upkeep_by_hand(self) -> Callable[[], Awaitable[int]]:
        """From here on nothing happens by itself in the background; each call does one round of its work."""
        upkeep, task = self.runtime.upkeep, self.runtime._upkeep  # pyright: ignore[reportPrivateUsage]
        assert upkeep is not None and task is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return upkeep.work

    def _demand(self) -> list[Demand]:
        return (
            [Demand(1, self.session, self.version, "x", "async", self._free - len(self.claimed))] if self._free > len(self.claimed) else []
        )

    def room(self, n: int) -> None:
        """Let `n` more runs start as soon as they may."""
        self._free = len(self.claimed) + n
        self.engine.wake()

    async def claim(self, n: int = 1) -> None:
        """Let `n` more runs start, and wait until they have."""
        self.room(n)
        await until(lambda: len(self.claimed) >= self._free)

    async def complete(self, run_id: str, output: Any = None, *, error: str | None = None) -> None:
        run = self.claimed.pop(run_id).run
        self._free = len(self.claimed)
        failure = (
            None if error is None else encode_failure(Failure(name="ValueError", message=error, stack=f"Traceback\nValueError: {error}"))
        )
        output_text = None if output is None else msgspec.json.encode(output).decode()
        result = Result(epoch=run.epoch, attempt=run.attempt, outcome="failed" if error else "ok", output=output_text, error=failure)
        await self.engine.call(attempts.complete, Complete(run_id=run_id, session=self.session, result=result))

    async def trigger(self, task: str = "send-email", payload: Any = None, **options: Any) -> str:
        answer = await self.http.post(f"/api/v1/tasks/{task}/trigger", json={"payload": payload, "options": options})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    @asynccontextmanager
    async def page(self, path: str, *, ready: str = "#live") -> AsyncIterator[Page]:
        async with self.watch() as found:
            await found.page.goto(self.url + path)
            await found.page.wait_for_selector(ready)
            yield found.page

    @asynccontextmanager
    async def watch(self, *allowed: str) -> AsyncIterator[Watched]:
        async with watched(self.context, self.url) as found:
            found.allowed = allowed
            yield found


async def until(check: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait until it holds.

    Raises:
        TimeoutError: it did not in time.
    """
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(
    chromium: Browser,
    where: Address,
    folder: Path,
    *,
    is_open: bool = True,
    public_url: str | None = None,
    clock: Clock | None = None,
    port: int = 0,
) -> AsyncIterator[House]:
    options = Options(database=where.url, schema=where.schema, data=folder / "data", open_dashboard=is_open, public_url=public_url)
    runtime = Runtime(options, clock=clock)
    await runtime.start()
    listening = serving.bind("127.0.0.1", port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with serving.serving(serving.make(runtime), listening):
            context = await chromium.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce", color_scheme="dark")
            house = House(runtime, url, context)
            try:
                yield house
            finally:
                await house.close()
                await context.close()
    finally:
        await runtime.close()


async def settled(page: Page) -> None:
    """What the page fetches after its load is there."""
    await page.wait_for_selector("#live, main")
    if await page.locator("trace-view").count():
        await page.wait_for_selector(".tr")
    if await page.locator("#live-dot").count():
        await page.wait_for_function("() => document.querySelector('#live-dot').dataset.state === 'live'")
