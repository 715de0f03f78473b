"""The executor process: `python -m outlast.worker.executor FD NAME PROJECT …`. User code runs here and nowhere else."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TextIO

from outlast import faults, interpreter
from outlast.worker import capture, redaction
from outlast.worker.connection import Connection, WebSocketConnection
from outlast.worker.control import Assign, CancelRun, Control, ControlLine, Exhausted, Full, Idle, Over, Pause, Pulse, Ready, Stop
from outlast.worker.core import ExecutorCore
from outlast.worker.deaf import be_deaf
from outlast.worker.discover import Discovery, discover
from outlast.worker.dying import die_with_parent
from outlast.worker.joining import stay_joined
from outlast.worker.log import configure
from outlast.worker.parking import WaitLimits
from outlast.worker.surviving import run_surviving
from outlast.worker.watchdog import Watchdog

PULSE_SECONDS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("fd", type=int)
    parser.add_argument("name")
    parser.add_argument("project", type=Path)
    parser.add_argument("--module", action="append")
    parser.add_argument("--async-slots", type=int, default=0)
    parser.add_argument("--thread-slots", type=int, default=0)
    parser.add_argument("--spool", type=Path)
    parser.add_argument("--cold-after", type=float)
    parser.add_argument("--hot-waits", type=int)
    parser.add_argument("--memory-mb", type=int)
    parser.add_argument("--replay-every-wait", action="store_true")
    parser.add_argument("--log-format")
    arguments = parser.parse_args()
    die_with_parent()
    faults.arm()
    be_deaf()
    configure(arguments.log_format)
    faulthandler.enable()
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    found = discover(arguments.project, arguments.module)
    interpreter.settle()
    _, stderr = capture.install()
    run_surviving(_main(arguments, found, stderr))


async def _main(arguments: argparse.Namespace, found: Discovery, stderr: TextIO) -> None:
    control = await ControlLine.open(socket.socket(fileno=arguments.fd))
    core = ExecutorCore(
        arguments.name,
        config=found.config,
        is_dev=False,
        async_slots=arguments.async_slots,
        thread_slots=arguments.thread_slots,
        spool=arguments.spool,
        replay_every_wait=arguments.replay_every_wait,
        limits=_limits(arguments, found),
    )
    executor = Executor(control, core, stderr=stderr)
    Watchdog(executor.running).start()
    control.send(Ready(found.manifest, found.failures))
    await executor.run()
    if core.tracing is not None and core.idle.is_set():
        core.tracing.flush()
    # the supervisor is gone: nobody renews the lease any more, so nothing that runs here counts
    os._exit(0)


class Executor:
    """The process's part around the core: what the supervisor says, and the connection to the server."""

    def __init__(
        self,
        control: Control,
        core: ExecutorCore,
        *,
        stderr: TextIO | None = None,
        connect: Callable[[str, str | None], Awaitable[Connection]] = WebSocketConnection.open,
    ) -> None:
        self.control = control
        self.core = core
        self.core.waits.parking.on_full = lambda: control.send(Full())
        self.core.on_exhausted = lambda: control.send(Exhausted())
        self.stderr = stderr
        self.serving: asyncio.Task[None] | None = None
        self.work: set[asyncio.Task[None]] = set()
        self._connect = connect

    async def run(self) -> None:
        """Until the supervisor is gone."""
        self._spawn(self._pulse())
        while (line := await self.control.receive()) is not None:
            match line:
                case Assign():
                    self._assign(line)
                case Stop():
                    self._spawn(self._stop(line.seconds))
                case Pause():
                    self.core.pause(line.on)
                case CancelRun():
                    self.core.stopping.cancel(line.run_id, line.epoch, line.grace_ms)
                case _:
                    pass

    def _assign(self, assign: Assign) -> None:
        os.environ.update(assign.env_vars)
        redaction.look()
        self.core.set_dev(assign.is_dev)
        self.core.lines.echo = self.stderr if assign.is_dev else None
        if self.serving is not None:
            self.serving.cancel()  # another session: an executor works for one
        self.serving = self._spawn(
            stay_joined(self.core, assign, lambda reason, final: self.control.send(Over(reason, final)), connect=self._connect)
        )

    async def _stop(self, seconds: float) -> None:
        self.core.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.core.idle.wait(), seconds)
        self.core.give_back()
        await self.core.answered()
        self.control.send(Idle())

    async def _pulse(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(PULSE_SECONDS)
            self.core.waits.parking.look_at_memory(_megabytes())
            lag = (loop.time() - began - PULSE_SECONDS) * 1_000
            self.control.send(Pulse(lag, len(self.core.held), self.running(None), self.core.has_joined))

    def running(self, executing: asyncio.Task[Any] | None) -> list[str]:
        """Runs held here, by task and id; only the one that executes at this moment, when that can be told."""
        held = list(self.core.held.values())
        now = [h for h in held if executing is not None and (h.work is executing or (h.runner is not None and h.runner.body is executing))]
        return [f"{h.push.task} ({h.push.run_id})" for h in (now or held)[:5]]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.work.add(task)
        task.add_done_callback(self.work.discard)
        return task


def _limits(arguments: argparse.Namespace, found: Discovery) -> WaitLimits:
    cold_after = found.config.cold_after if arguments.cold_after is None else arguments.cold_after
    return WaitLimits(cold_after or None, arguments.hot_waits, arguments.memory_mb)


def _megabytes() -> float:
    """What this process has in memory; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1_048_576
    return 0.0


if __name__ == "__main__":
    main()
