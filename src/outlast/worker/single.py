"""The process of one run: an executor of one, whose channel is a line to its supervisor. It ends when it holds the run no more."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from outlast.model.messages import FromWorker, ToWorker, decode_to_worker, encode_frame
from outlast.worker import capture
from outlast.worker.connection import Connection
from outlast.worker.control import FrameLine, framed
from outlast.worker.core import ExecutorCore
from outlast.worker.deaf import be_deaf
from outlast.worker.discover import Discovery, discover
from outlast.worker.dying import die_with_parent
from outlast.worker.log import configure
from outlast.worker.surviving import run_surviving
from outlast.worker.watchdog import Watchdog

SWITCH_INTERVAL = 0.0001  # as in every process of ours
OUT_OF_MEMORY = 137  # exit status: what a shell shows of a process that the kernel killed for its memory
NUMBERS = 32  # bits of a write's number; above them stands the number of the process


class Birth(msgspec.Struct, frozen=True, array_like=True):
    """What a process is told before its run. `memory_bytes`: what it may have, 0 for no limit."""

    executor: str
    number: int
    is_dev: bool
    memory_bytes: int = 0


_birth = msgspec.msgpack.Decoder(Birth).decode


def main() -> None:
    """A fresh interpreter, where a fork is not possible."""
    parser = argparse.ArgumentParser()
    parser.add_argument("fd", type=int)
    parser.add_argument("project", type=Path)
    parser.add_argument("--module", action="append")
    parser.add_argument("--log-format")
    arguments = parser.parse_args()
    die_with_parent()
    be_deaf()
    configure(arguments.log_format)
    faulthandler.enable()
    run(arguments.fd, discover(arguments.project, arguments.module))


def run(fd: int, found: Discovery) -> None:
    """Work for one run, then end this process."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    _, stderr = capture.install()
    try:
        run_surviving(_main(fd, found, stderr))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


async def _main(fd: int, found: Discovery, stderr: TextIO) -> None:
    end = socket.socket(fileno=fd)
    line = await FrameLine.open(end)
    told = await line.get()
    if told is None:
        os._exit(0)
    birth = _birth(told)
    core = ExecutorCore(
        birth.executor,
        config=found.config,
        is_dev=birth.is_dev,
        async_slots=1,
        thread_slots=1,
        first_number=birth.number << NUMBERS,
        memory_bytes=_limit_memory(birth.memory_bytes),
        alone=True,
    )
    core.lines.echo = stderr if birth.is_dev else None
    core.idle.clear()  # until its run is over, which has not come yet
    Watchdog(lambda executing: [f"{h.push.task} ({h.push.run_id})" for h in core.held.values()]).start()
    connection = LineConnection(line, end)
    core.lines.at_once = lambda log: connection.send_now([log])
    serving = asyncio.get_running_loop().create_task(core.serve(connection, "", ""))
    await asyncio.wait([serving, asyncio.ensure_future(core.idle.wait())], return_when=asyncio.FIRST_COMPLETED)
    await core.outbox.flushed()
    if core.tracing is not None:
        core.tracing.flush()
    # not by returning: what is left of the code must not be unwound, and a thread of it not be waited for
    stderr.flush()
    os._exit(0)


class LineConnection(Connection):
    """The channel of one run, to the supervisor. It is written to past the event loop, which the code of the run may hold up."""

    def __init__(self, line: FrameLine, end: socket.socket) -> None:
        self._line = line
        self._end = end
        self._lock = threading.Lock()

    async def send(self, messages: Sequence[FromWorker]) -> None:
        self.send_now(messages)

    def send_now(self, messages: Sequence[FromWorker]) -> None:
        """From any thread. When this returns the kernel has it, and delivers it even if this process ends."""
        with self._lock:
            left = memoryview(framed(encode_frame(messages)))
            while left:
                try:
                    left = left[self._end.send(left) :]
                except BlockingIOError:
                    select.select([], [self._end], [])
                except OSError:
                    os._exit(0)  # the supervisor is gone

    async def receive(self) -> list[ToWorker]:
        body = await self._line.get()
        if body is None:
            os._exit(0)  # nobody renews the lease any more, so nothing that runs here counts
        return decode_to_worker(body)

    async def close(self) -> None:
        self._line.close()


def _limit_memory(limit: int) -> int:
    """What was set; 0 where the system has no such limit. Memory that is only reserved, or a file's, is not counted."""
    if not limit or sys.platform != "linux":
        return 0
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return limit


if __name__ == "__main__":
    main()
