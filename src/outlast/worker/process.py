"""An executor as its supervisor sees it: a child process, its control line, and its signs of life."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.worker.control import Assign, Control, ControlLine, Exhausted, Full, Idle, Line, Over, Pulse, Ready, Stop

log = logging.getLogger("outlast.worker")

HUNG_SECONDS = 5.0
KILL_GRACE_SECONDS = 5.0


class ExecutorProcess:
    def __init__(
        self,
        name: str,
        project: Path,
        *,
        modules: list[str] | None,
        async_slots: int,
        thread_slots: int,
        waiting: Sequence[str] = (),
        log_format: str | None = None,
        spool: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.async_slots = async_slots
        self.thread_slots = thread_slots
        self._waiting = waiting
        self.lag_ms = 0.0
        self.away_since: float | None = None  # when servers began to send it away
        self.running: list[str] = []
        self.drained = False
        self.session: str | None = None  # the one it was given last
        self.on_exhausted: Callable[[], None] | None = None
        self.on_full: Callable[[], None] | None = None
        self.on_refused: Callable[[str], None] | None = None
        self._spool = spool
        self._env = dict(env or {})
        self._project = project
        self._modules = modules
        self._log_format = log_format
        self._process: asyncio.subprocess.Process | None = None
        self._control: Control | None = None
        self._idle = asyncio.Event()
        self._ready: asyncio.Future[Ready | None] = asyncio.get_running_loop().create_future()
        self._last_pulse = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> Ready | None:
        """Start it and wait until it has loaded the user's code; None when it ended instead."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "outlast.worker.executor", str(theirs.fileno()), self.name, str(self._project)]
        command += ["--async-slots", str(self.async_slots), "--thread-slots", str(self.thread_slots)]
        command += self._waiting
        for module in self._modules or []:
            command += ["--module", module]
        if self._spool is not None:
            command += ["--spool", str(self._spool)]
        if self._log_format:
            command += ["--log-format", self._log_format]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            pass_fds=[theirs.fileno()],
            cwd=self._project,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **self._env},
            start_new_session=True,  # a task that signals its process group must not reach the supervisor
        )
        theirs.close()
        self._control = await ControlLine.open(ours)
        self._spawn(self._listen(self._control))
        return await self._ready

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def silent_seconds(self) -> float:
        """How long its event loop has given no sign of life."""
        return asyncio.get_running_loop().time() - self._last_pulse if self._last_pulse else 0.0

    def assign(self, assign: Assign) -> None:
        """Give it a session to work for."""
        self.session = assign.session
        self.send(assign)

    def send(self, line: Line) -> None:
        if self._control is not None:
            self._control.send(line)

    async def ended(self) -> int | None:
        assert self._process is not None
        status = await self._process.wait()
        if self._spool is not None:  # its results were of runs that are lost with it
            shutil.rmtree(self._spool, ignore_errors=True)
        return status

    async def drain(self, seconds: float) -> None:
        """Let its runs end, give back the rest after `seconds`, then end it."""
        self.drained = True
        self.send(Stop(seconds))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds + KILL_GRACE_SECONDS)
        await self.end()

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _listen(self, control: Control) -> None:
        watch = asyncio.get_running_loop().create_task(self._watch_pulse())
        try:
            while (line := await control.receive()) is not None:
                match line:
                    case Ready():
                        if not self._ready.done():
                            self._ready.set_result(line)
                    case Pulse():
                        self.lag_ms = line.lag_ms
                        self.running = line.running
                        if line.joined:
                            self.away_since = None
                        self._last_pulse = asyncio.get_running_loop().time()
                    case Idle():
                        self._idle.set()
                    case Exhausted():
                        if self.on_exhausted is not None:
                            self.on_exhausted()
                    case Full():
                        if self.on_full is not None:
                            self.on_full()
                    case Over():
                        # usual while the supervisor is not back yet: the executor tries again
                        self.away_since = self.away_since or asyncio.get_running_loop().time()
                        log.log(
                            logging.WARNING if line.final else logging.DEBUG,
                            "executor was sent away",
                            extra={"executor": self.name, "reason": line.reason},
                        )
                        if line.final and self.on_refused is not None:
                            self.on_refused(line.reason)
                    case _:
                        pass
        finally:
            watch.cancel()
            control.close()
            self._idle.set()
            if not self._ready.done():
                self._ready.set_result(None)

    async def _watch_pulse(self) -> None:
        """A loop that user code blocks sends no pulse: name what it executes, and show where it stands."""
        await asyncio.shield(self._ready)  # whoever ends this waiting must not end the future that `start` waits for
        loop = asyncio.get_running_loop()
        self._last_pulse = loop.time()
        told = False
        while True:
            await asyncio.sleep(1.0)
            silent = loop.time() - self._last_pulse
            if silent < HUNG_SECONDS:
                told = False
            elif not told and self._process is not None:
                told = True
                log.error("event loop hung", extra={"executor": self.name, "seconds": round(silent), "running": self.running})
                if hasattr(signal, "SIGUSR1"):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self._process.pid, signal.SIGUSR1)  # it writes its stacks to stderr

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
