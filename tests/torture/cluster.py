"""Real servers and workers behind the balancer, and a database that can be restarted. Only what was started here is ever signalled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from tests.torture.balancer import Balancer

PROJECT = Path(__file__).parent / "project"
ROOT = Path(__file__).parents[2]
OUTLAST = str(Path(sys.executable).parent / "outlast")
OLD_WORKERS = 1 / 3  # stay when new code has been deployed
NEW_TASK = """from outlast import task


@task(id="sim.new")
async def new(payload: dict) -> int:
    return 2
"""
LOST_ANSWERS = 0.01
KINDS = (  # each has executors for coroutines, for threads, and processes of single runs
    ("--executors", "2", "--async-slots", "20", "--thread-slots", "5", "--process-slots", "8"),
    ("--executors", "1", "--async-slots", "40", "--thread-slots", "10", "--process-slots", "16"),
)


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    with contextlib.suppress(OSError):
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [*children, *[found for child in children for found in below(child)]]
    return []


class Cluster:
    def __init__(self, folder: Path, database: str | None, *, servers: int, workers: int) -> None:
        self.folder = folder
        self.database = database or f"sqlite:///{folder / 'data' / 'outlast.db'}"
        self.wanted = (servers, workers)
        self._stay = round(workers * OLD_WORKERS)
        self.balancer = Balancer(lost_answers=LOST_ANSWERS)
        self.gates: dict[int, Balancer] = {}  # by a server's port: between it and PostgreSQL
        self.servers: dict[int, subprocess.Popen[bytes]] = {}  # by port
        self.workers: list[subprocess.Popen[bytes]] = []
        self.key = ""
        self.new_code: Path | None = None  # deployed: what most workers that are started from then on run
        self._old: set[int] = set()  # pids of workers with the code of the beginning
        self._numbers = 0
        self._filling = asyncio.Lock()
        self._logs = {name: (folder / f"{name}.log").open("ab") for name in ("server", "worker")}

    async def start(self) -> None:
        await self.balancer.start()
        await self.start_server()
        self.key = await self._key()
        await asyncio.gather(*[self.start_server() for _ in range(self.wanted[0] - 1)])
        for _ in range(self.wanted[1]):
            self.start_worker()

    async def start_server(self) -> None:
        self._numbers += 1
        said = self.folder / f"server{self._numbers}.out"
        gate, url = await self._gate()
        command = [OUTLAST, "server", "--port", "0", "--data", str(self.folder / "data"), "--database", url]
        with said.open("wb") as out:
            process = self._spawn(command, out, "server")
        while process.poll() is None:
            if found := re.search(rb"http://127\.0\.0\.1:(\d+)\s", said.read_bytes()):
                self.servers[int(found.group(1))] = process
                self.balancer.backends = list(self.servers)
                if gate is not None:
                    self.gates[int(found.group(1))] = gate
                return
            await asyncio.sleep(0.1)
        if gate is not None:
            await gate.stop()
        await asyncio.sleep(0.5)  # it says in the log why it left; whoever wants one tries again

    async def _gate(self) -> tuple[Balancer | None, str]:
        """What stands between a new server and PostgreSQL, and the address it sees."""
        found = conninfo_to_dict(self.database) if self.database.startswith("postgres") else {}
        if not found:
            return None, self.database
        port = found.get("port") or 5432
        gate = Balancer([Path(str(found["host"])) / f".s.PGSQL.{port}" if str(found["host"]).startswith("/") else int(port)])
        await gate.start()
        return gate, f"postgresql://{found['user']}@127.0.0.1:{gate.port}/{found['dbname']}"

    def start_worker(self) -> None:
        """With the new code, once there is one; but runs that have begun keep their version, so some with the old code stay."""
        self._old = {worker.pid for worker in self.workers if worker.pid in self._old}
        is_old = self.new_code is None or len(self._old) < self._stay
        project = PROJECT if self.new_code is None or is_old else self.new_code
        # once deployed, a worker with the old code that comes back must not make it the current one again
        promote = ["--no-promote"] if self.new_code is not None and is_old else []
        command = [OUTLAST, "worker", str(project), "--api-url", f"http://127.0.0.1:{self.balancer.port}", "--log-format", "json", *promote]
        worker = self._spawn([*command, *KINDS[len(self.workers) % len(KINDS)]], subprocess.DEVNULL, "worker")
        self.workers.append(worker)
        if is_old:
            self._old.add(worker.pid)

    async def deploy(self) -> None:
        """Rolling: one worker after the other is replaced by one with new code."""
        folder = self.folder / "project2"
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "tasks" / "more.py").write_text(NEW_TASK)
        self.new_code = folder
        leaving = [worker for worker in self.workers if worker.pid in self._old][self._stay :]
        for worker in leaving:
            self._old.discard(worker.pid)
            worker.terminate()
            await asyncio.to_thread(worker.wait)
            await self.fill_up()

    def _spawn(self, command: list[str], out: Any, log: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "LEDGER": str(self.folder / "ledger"), "OUTLAST_SECRET_KEY": self.key, "OUTLAST_DRAIN_SECONDS": "3",
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))), "OUTLAST_LOG_FORMAT": "json",
            "OUTLAST_KEY_RATE": "off", "OUTLAST_BATCH_RATE": "off",
        }  # fmt: skip
        return subprocess.Popen(command, stdout=out, stderr=self._logs[log], env=environment)

    async def _key(self) -> str:
        command = [OUTLAST, "keys", "create", "--env", "prod", "--data", str(self.folder / "data"), "--database", self.database]
        return (await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)).stdout.strip()

    async def forget(self, process: subprocess.Popen[bytes]) -> None:
        for port in [port for port, p in self.servers.items() if p is process]:
            del self.servers[port]
            if port in self.gates:
                await self.gates.pop(port).stop()
        self.balancer.backends = list(self.servers)
        self.workers = [p for p in self.workers if p is not process]

    async def fill_up(self) -> None:
        """As many as there should be. One at a time counts, and whoever is cancelled meanwhile leaves no process that nobody knows."""
        await asyncio.shield(self._fill_up())

    async def _fill_up(self) -> None:
        async with self._filling:
            await self._start_missing()

    async def _start_missing(self) -> None:
        for process in [*self.servers.values(), *self.workers]:
            if process.poll() is not None:
                await self.forget(process)
        while len(self.servers) < self.wanted[0]:
            await self.start_server()
        while len(self.workers) < self.wanted[1]:
            self.start_worker()

    def executors(self, worker: subprocess.Popen[bytes]) -> list[int]:
        """Its executors, and the processes of single runs."""
        return below(worker.pid)

    async def stop(self) -> None:
        async with self._filling:
            everything = [*self.workers, *self.servers.values()]
        for process in everything:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in everything:
            try:
                await asyncio.to_thread(process.wait, 20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for proxy in (self.balancer, *self.gates.values()):
            await proxy.stop()
        for log in self._logs.values():
            log.close()
