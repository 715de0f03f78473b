"""The zygote: `python -m outlast.worker.zygote …`. It has the user's code loaded and nothing running, and makes a process for each run.

A fork copies one thread and the locks of all of them: beside a second thread the child may wait for ever for a lock nobody
will release. So this process has no event loop, no connection and one thread, and where the user's code starts a thread or opens
a connection when it is imported it makes new interpreters instead, which are slow but whole.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from pathlib import Path
from types import FrameType

from outlast.interpreter import settle
from outlast.model.manifest import TaskDefinition
from outlast.tasks import registry
from outlast.worker import single
from outlast.worker.control import Born, Ended, Ready, TaskTerms, Terms, pack
from outlast.worker.deaf import be_deaf
from outlast.worker.discover import Discovery, discover
from outlast.worker.dying import die_with_parent
from outlast.worker.log import configure

REQUEST = struct.Struct(">cI")  # what to do, and the number of the run's process; a new one's socket comes with it
MAKE, KILL = b"m", b"k"
RSS_UNIT = 1 if sys.platform == "darwin" else 1_024  # bytes, of what the kernel counts as the largest size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("control", type=int)
    parser.add_argument("requests", type=int)
    parser.add_argument("project", type=Path)
    parser.add_argument("--module", action="append")
    parser.add_argument("--log-format")
    arguments = parser.parse_args()
    die_with_parent()
    be_deaf()
    configure(arguments.log_format)
    faulthandler.enable()
    check = ForkCheck()
    found = discover(arguments.project, arguments.module, on_import=check.look)
    control = socket.socket(fileno=arguments.control)
    control.sendall(pack(_terms(found, check.reason)) + pack(Ready(found.manifest, found.failures)))
    for task in registry.tasks.values():
        task.schema.prepare()
    settle()  # a collection in a child must not copy every page of what is loaded, and most are over before they need one
    zygote = Zygote(control, socket.socket(fileno=arguments.requests), found, arguments)
    zygote.run(forks=not check.reason)


class ForkCheck:
    """Sees which module makes this process one that must not be forked."""

    def __init__(self) -> None:
        self.reason = "" if sys.platform == "linux" else f"{sys.platform} has no fork that is safe"
        self._sockets = _sockets()

    def look(self, module: str) -> None:
        if self.reason:
            return
        if _threads() != 1:
            self.reason = f"module {module} starts a thread when it is imported"
        elif _sockets() > self._sockets:
            self.reason = f"module {module} opens a connection or an event loop when it is imported"


class Zygote:
    def __init__(self, control: socket.socket, requests: socket.socket, found: Discovery, arguments: argparse.Namespace) -> None:
        self._control = control
        self._requests = requests
        self._found = found
        self._arguments = arguments
        self._pids: dict[int, int] = {}  # by number
        self._numbers: dict[int, int] = {}  # by pid
        self._woken, self._wakes = os.pipe()

    def run(self, *, forks: bool) -> None:
        """Until the supervisor is gone."""
        os.set_blocking(self._wakes, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _noted)
        while True:
            readable, _, _ = select.select([self._requests, self._woken], [], [])
            if self._woken in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4_096)
                self._bury()
            if self._requests in readable:
                self._serve(forks)

    def _serve(self, forks: bool) -> None:
        request, fds, _, _ = socket.recv_fds(self._requests, REQUEST.size, 1)
        if len(request) < REQUEST.size:
            os._exit(0)  # the supervisor is gone, and with this process go its children
        kind, number = REQUEST.unpack(request)
        if kind == KILL:
            return self._kill(number)
        try:
            pid = self._fork(fds[0]) if forks else self._spawn(fds[0])
        except OSError as error:
            print(f"no process for a run: {error}", file=sys.stderr)
            return self._control.sendall(pack(Ended(number, None)))
        finally:
            os.close(fds[0])
        self._pids[number] = pid
        self._numbers[pid] = number
        return self._control.sendall(pack(Born(number, pid)))

    def _kill(self, number: int) -> None:
        pid = self._pids.get(number)
        if pid is None:
            return
        kill_group(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # it may not have made its group yet

    def _bury(self) -> None:
        """Children that ended, and what they left behind in their groups: nothing of a run outlives its process."""
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            kill_group(dead.si_pid)  # before it is reaped: until then the number is nobody else's
            _, status, used = os.wait4(dead.si_pid, 0)
            number = self._numbers.pop(dead.si_pid, None)
            if number is not None:
                del self._pids[number]
                cpu_ms = round((used.ru_utime + used.ru_stime) * 1_000)
                self._control.sendall(pack(Ended(number, os.waitstatus_to_exitcode(status), cpu_ms, used.ru_maxrss * RSS_UNIT)))

    def _fork(self, fd: int) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become_child(parent)
            single.run(os.dup(fd), self._found)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _become_child(self, parent: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        be_deaf()  # again: after a fork it hears
        for mine in (self._control, self._requests):
            mine.close()
        os.close(self._woken)
        os.close(self._wakes)
        os.setsid()  # a task that signals its process group reaches itself only
        die_with_parent()
        if os.getppid() != parent:
            os._exit(0)
        random.seed()
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed()

    def _spawn(self, fd: int) -> int:
        modules: list[str] = self._arguments.module or []
        command = [sys.executable, "-m", "outlast.worker.single", str(fd), str(self._arguments.project)]
        for module in modules:
            command += ["--module", module]
        if self._arguments.log_format:
            command += ["--log-format", self._arguments.log_format]
        return subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL, start_new_session=True).pid


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The pipe wakes us; without a handler there would be no wake-up."""


def _terms(found: Discovery, cannot_fork: str) -> Terms:
    config = found.config
    tasks = {d.id: _task_terms(d, found) for d in found.manifest.tasks}
    return Terms(tasks, config.cold_after, config.retries_in_dev, cannot_fork)


def _task_terms(definition: TaskDefinition, found: Discovery) -> TaskTerms:
    options = registry.tasks[definition.id].options
    limit = options.max_duration if options.has_max_duration else found.config.max_duration
    return TaskTerms(limit, definition.retry, definition.machine or found.config.machine, definition.kind == "process")


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0  # not known is not one


def _sockets() -> int:
    """Sockets and event loops' descriptors that are open here."""
    found = 0
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            found += target.startswith("socket:") or target == "anon_inode:[eventpoll]"
    return found


if __name__ == "__main__":
    main()
