"""The external effects ledger: files that executors append to with one write a line. A kill -9 takes no line of it back."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from outlast import RunContext
from tests.simulation.programs import Ledger


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class FileLedger(Ledger):
    """What tasks write, in whichever process they run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Random(), now_ms, True)
        self._folder = folder
        (folder / "counts").mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder / "lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def _say(self, **line: Any) -> None:
        os.write(self._fd, (json.dumps({**line, "at": now_ms(), "pids": _lineage(os.getpid())}) + "\n").encode())

    def saw(self, ctx: RunContext, place: str, value: Any) -> None:
        self._say(event="saw", run=ctx.run.id, place=place, value=str(value))

    def effect(self, run_id: str, name: str, key: str) -> int:
        value = time.time_ns()
        self._say(event="effect", run=run_id, place=name, key=key, value=value)
        return value

    def failed_before(self, run_id: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / "counts" / run_id).stat().st_size
        return 0

    def fail(self, run_id: str) -> None:
        with open(self._folder / "counts" / run_id, "ab") as file:
            file.write(b"x")

    def began(self, run_id: str, place: str) -> int:
        path = self._folder / "counts" / f"{run_id}:{place}"
        with contextlib.suppress(FileExistsError):
            made = path.with_name(f"{path.name}.{os.getpid()}")
            made.write_text(str(now_ms()))
            with contextlib.suppress(FileExistsError):
                os.link(made, path)
            made.unlink()
        return int(path.read_text())

    def die(self) -> None:
        os.kill(os.getpid(), random.choice((signal.SIGKILL, signal.SIGSEGV)))

    @contextlib.asynccontextmanager
    async def execution(self, ctx: RunContext, *, waits: bool = False) -> AsyncIterator[None]:
        with self.executing(ctx, waits=waits):
            yield

    @contextlib.contextmanager
    def executing(self, ctx: RunContext, *, waits: bool = False) -> Iterator[None]:
        self._say(event="start", run=ctx.run.id, attempt=ctx.attempt.number, waits=waits)
        yield
        self._say(event="end", run=ctx.run.id, attempt=ctx.attempt.number)


@cache
def from_environment() -> FileLedger:
    return FileLedger(Path(os.environ["LEDGER"]))


@cache
def _lineage(pid: int) -> list[int]:
    """This process and those above it: its executor or fork server, its worker, …"""
    pids: list[int] = []
    while pid > 1:
        pids.append(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pids


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError), open(folder / "lines", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def gather(folder: Path) -> Ledger:
    """All that was written, as the checks want it."""
    ledger = Ledger(Random(), now_ms, True)
    ledger.seen = defaultdict(set)
    for line in lines(folder):
        run_id = line["run"]
        match line["event"]:
            case "start":
                ledger.started.add(run_id)
                if not line["waits"]:
                    ledger.starts[(run_id, line["attempt"])] += 1
            case "effect":
                ledger.effects[(run_id, line["place"])].add(line["key"])
            case "saw":
                ledger.seen[(run_id, line["place"])].add(line["value"])
            case _:
                pass
    ledger.wrong += [f"I8: run {run} was given {values} at {place}" for (run, place), values in ledger.seen.items() if len(values) > 1]
    return ledger
