"""A zygote as its supervisor sees it: asked for processes, told of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from outlast.worker.control import Born, ControlLine, Ended, FrameLine, Ready, Terms
from outlast.worker.zygote import KILL, MAKE, REQUEST, kill_group


class Nursery:
    def __init__(
        self,
        project: Path,
        *,
        modules: list[str] | None,
        log_format: str | None,
        env: Mapping[str, str],
        on_ended: Callable[[Ended], None],
    ) -> None:
        self.terms = Terms({}, 0.0, False)
        self._project = project
        self._modules = modules or []
        self._log_format = log_format
        self._env = dict(env)
        self._on_ended = on_ended
        self._process: asyncio.subprocess.Process | None = None
        self._requests: socket.socket | None = None
        self._ready: asyncio.Future[Ready | None] = asyncio.get_running_loop().create_future()
        self._listening: asyncio.Task[None] | None = None
        self._pids: dict[int, int] = {}  # of the processes of runs, by number

    async def start(self) -> Ready | None:
        """Start it and wait until it has loaded the user's code; None when it ended instead."""
        control, its_control = socket.socketpair()
        self._requests, its_requests = socket.socketpair()
        command = [sys.executable, "-m", "outlast.worker.zygote", str(its_control.fileno()), str(its_requests.fileno()), str(self._project)]
        for module in self._modules:
            command += ["--module", module]
        if self._log_format:
            command += ["--log-format", self._log_format]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            pass_fds=[its_control.fileno(), its_requests.fileno()],
            cwd=self._project,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **self._env},
            start_new_session=True,  # a task that signals its process group must not reach the supervisor
        )
        its_control.close()
        its_requests.close()
        self._listening = asyncio.get_running_loop().create_task(self._listen(await ControlLine.open(control)))
        return await self._ready

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def make(self, number: int) -> FrameLine:
        """Ask for a process; the line to it can be written at once.

        Raises:
            OSError: the zygote is gone.
        """
        if self._requests is None:
            raise OSError("the zygote has ended")
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._requests, [REQUEST.pack(MAKE, number)], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return await FrameLine.open(ours)

    def end_one(self, number: int) -> None:
        """By SIGKILL, with its whole process group."""
        if self._requests is not None:
            with contextlib.suppress(OSError):
                self._requests.send(REQUEST.pack(KILL, number))

    async def ended(self) -> int | None:
        assert self._process is not None
        status = await self._process.wait()
        if self._listening is not None:
            await self._listening  # what it has said last
        for pid in self._pids.values():  # they died with it; not so what they have started
            kill_group(pid)
        self._pids.clear()
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        return status

    def kill(self) -> None:
        """End it, and with it all its children."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _listen(self, control: ControlLine) -> None:
        try:
            while (line := await control.receive()) is not None:
                match line:
                    case Terms():
                        self.terms = line
                    case Ready():
                        self._ready.set_result(line)
                    case Born():
                        self._pids[line.number] = line.pid
                    case Ended():
                        self._pids.pop(line.number, None)
                        self._on_ended(line)
                    case _:
                        pass
        finally:
            control.close()
            if not self._ready.done():
                self._ready.set_result(None)
