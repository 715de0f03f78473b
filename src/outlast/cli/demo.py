"""`outlast demo`: a server, a worker, and real runs with a live table."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import outlast.demo
from outlast import runs, tasks, wait
from outlast.cli import serving
from outlast.cli.dev import Dev, running
from outlast.client.answers import Run
from outlast.settings import Settings

PAGES = ("install", "queues", "retries", "schedules", "deploys", "realtime")
FINAL_WAIT_SECONDS = 120.0
REFRESH_SECONDS = 0.25


async def run_demo(settings: Settings, path: Path | None, *, end: bool) -> int:
    """0 when every run ended as it should."""
    stopped = asyncio.Event()
    serving.on_signals(lambda _: stopped.set())
    project = Path(outlast.demo.__file__).parent
    async with running(settings, project, quiet=True) as dev:
        connected = asyncio.create_task(dev.supervisor.connected.wait())
        await asyncio.wait([connected, dev.working], return_when=asyncio.FIRST_COMPLETED)
        if dev.working.done():
            await dev.working
        handles = await _trigger(path or project.parent, Path(settings.data))
        wrong = await _follow(handles, stopped, Incidents(dev))
        _say_where_to_look(dev)
        if not end and not stopped.is_set():
            print("Stop with Ctrl-C.", flush=True)
            await stopped.wait()
    for line in wrong:
        print(f"not as it should: {line}")
    return 1 if wrong else 0


async def _trigger(folder: Path, data: Path) -> list[str]:
    """The runs to follow; children are found through their parent."""
    output = tempfile.mkdtemp(prefix="index-", dir=data.resolve())
    index = await tasks.trigger("docs.index.folder", {"path": str(folder.resolve()), "output": output})
    pages = [await tasks.trigger("links.check.page", page, tags=["pages"]) for page in PAGES]
    summary = await tasks.trigger("reports.send.summary", "ada@example.com", delay="2s")
    return [index.id, *[page.id for page in pages], summary.id]


class Incidents:
    """What happens to the runs while they go: an executor is killed, and somebody approves the index."""

    def __init__(self, dev: Dev) -> None:
        self._dev = dev
        self._killed = 0
        self._approved = 0

    async def look(self, seen: dict[str, Run]) -> None:
        done = sum(run.is_success and run.task_identifier == "docs.index.file" for run in seen.values())
        pids = self._dev.supervisor.executor_pids()
        if done and not self._killed and pids:
            self._killed = pids[-1]
            os.kill(self._killed, signal.SIGKILL)
        if any(run.is_waiting for run in seen.values()):
            async for token in wait.list_tokens(status="WAITING"):
                await wait.complete_token(token, {"by": "the demo"})
                self._approved += 1

    def say(self) -> None:
        if self._killed:
            print(f"\nOn the way executor {self._killed} was killed with SIGKILL: its runs went on in another one.")
        if self._approved:
            print("The parent waited without a slot for its children, a second, and an approval, which the demo gave.")


async def _follow(roots: list[str], stopped: asyncio.Event, incidents: Incidents) -> list[str]:
    """Show all runs until they are over; what did not end well, line by line."""
    from rich.live import Live

    loop = asyncio.get_running_loop()
    deadline = loop.time() + FINAL_WAIT_SECONDS
    seen: dict[str, Run] = {}
    with Live(_table(seen), refresh_per_second=8, transient=False) as live:
        while loop.time() < deadline and not stopped.is_set():
            await _look(roots, seen)
            await incidents.look(seen)
            live.update(_table(seen))
            if _is_over(roots, seen):
                break
            await asyncio.sleep(REFRESH_SECONDS)
    incidents.say()
    return [f"{run.task_identifier} {run.id} is {run.status}" for run in seen.values() if not run.is_success] + _missing(seen)


async def _look(roots: list[str], seen: dict[str, Run]) -> None:
    oldest = min(roots)
    async for run in runs.list(period="1h", page_size=100):
        if run.id < oldest:
            break
        seen[run.id] = run


def _is_over(roots: list[str], seen: dict[str, Run]) -> bool:
    return all(run_id in seen for run_id in roots) and all(run.is_completed for run in seen.values())


def _missing(seen: dict[str, Run]) -> list[str]:
    done = any(run.task_identifier == "docs.index.finish" and run.is_success for run in seen.values())
    return [] if done else ["the index was not written"]


def _table(seen: dict[str, Run]) -> Any:
    from rich.table import Table

    made = Table(box=None, header_style="bold")
    for column in ("task", "queued", "delayed", "executing", "waiting", "completed", "failed", "last run"):
        made.add_column(column, justify="left" if column in ("task", "last run") else "right")
    by_task: dict[str, list[Run]] = {}
    for run in seen.values():
        by_task.setdefault(run.task_identifier, []).append(run)
    for task, found in sorted(by_task.items()):
        counts = Counter(run.status for run in found)
        bad = sum(1 for run in found if run.is_failed)
        executing = counts["EXECUTING"] + counts["DEQUEUED"]
        numbers = (counts["QUEUED"], counts["DELAYED"], executing, counts["WAITING"], counts["COMPLETED"], bad)
        made.add_row(task, *[str(n) if n else "·" for n in numbers], max(found, key=lambda run: run.id).id)
    return made


def _say_where_to_look(dev: Dev) -> None:
    print(
        f"\nOutlast  {dev.url}\nKey      {dev.key}\n\n"
        "Look:    outlast runs list · outlast runs show RUN · outlast runs logs RUN\n"
        f"Trigger: outlast trigger links.check.page --payload '\"queues\"' --wait\n"
        f"         (in another terminal: export OUTLAST_API_URL={dev.url} OUTLAST_SECRET_KEY={dev.key})\n",
        flush=True,
    )
