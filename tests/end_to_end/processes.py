"""Real servers and workers as child processes. Only what was started here is ever signalled."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from outlast.client.address import Address
from outlast.client.connection import Connection
from tests.databases import Address as DatabaseAddress

PROJECT = Path(__file__).parent / "project"
OUTLAST = str(Path(sys.executable).parent / "outlast")


class Cluster:
    """Servers and workers on one database."""

    def __init__(self, folder: Path, database: DatabaseAddress, *, project: Path = PROJECT, program: str = OUTLAST) -> None:
        self.program = program
        self.folder = folder
        self.project = project
        self.database = database
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.processes: list[subprocess.Popen[str]] = []
        self._clients: list[Connection] = []
        self.key = ""

    def server(self, port: int = 0) -> tuple[subprocess.Popen[str], int]:
        command = [self.program, "server", "--port", str(port), "--data", str(self.folder / "data"), "--database", self.database.url]
        command += ["--schema", self.database.schema]
        process = self._start(command, "server.log", stdout=subprocess.PIPE)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], 60)
        line = process.stdout.readline() if readable else ""
        found = re.search(r":(\d+)$", line.strip())
        assert found, (self.folder / "server.log").read_text()[-3000:]
        if not self.key:
            environment = {**os.environ, "OUTLAST_SCHEMA": self.database.schema}
            made = subprocess.run(
                [self.program, "keys", "create", "--env", "prod", "--data", str(self.folder / "data"), "--database", self.database.url],
                check=True, capture_output=True, text=True, env=environment,
            )  # fmt: skip
            self.key = made.stdout.strip()
        return process, int(found.group(1))

    def worker(self, port: int, *arguments: str) -> subprocess.Popen[str]:
        command = [self.program, "worker", str(self.project), "--api-url", f"http://127.0.0.1:{port}", "--log-format", "json", *arguments]
        return self._start(command, "worker.log", stdout=subprocess.DEVNULL)

    def client(self, port: int) -> Connection:
        self._clients.append(Connection(Address(f"http://127.0.0.1:{port}", self.key)))
        return self._clients[-1]

    def lines(self, event: str) -> list[list[str]]:
        return [line.split() for line in self.ledger.read_text().splitlines() if line.startswith(event + " ")]

    def executors(self, worker: subprocess.Popen[str]) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._close(process)

    def stop(self) -> None:
        for client in self._clients:
            client.close_sync()
        for process in self.processes[::-1]:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            self._close(process)

    def _start(self, command: list[str], log: str, *, stdout: int) -> subprocess.Popen[str]:
        ours = {"LEDGER": str(self.ledger), "OUTLAST_SECRET_KEY": self.key, "OUTLAST_DRAIN_SECONDS": "2"}
        ours |= {"OUTLAST_KEY_RATE": "off", "OUTLAST_BATCH_RATE": "off"}  # one key makes all the load
        environment = {**os.environ, **ours}
        with (self.folder / log).open("a") as errors:
            process = subprocess.Popen(command, stdout=stdout, stderr=errors, text=True, env=environment)
        self.processes.append(process)
        return process

    def _close(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None:
            process.stdout.close()


def until(check: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Wait until `check` holds; how long that took.

    Raises:
        AssertionError: it did not hold in time.
    """
    began = time.monotonic()
    poll = select.poll()
    while not check():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        poll.poll(50)
    return time.monotonic() - began
