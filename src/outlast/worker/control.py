"""The lines between supervisor, executors and zygote: length-prefixed messages over a socket pair. Its end is the other's death."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol, Self

import msgspec

from outlast.model.manifest import Manifest
from outlast.model.retry import Retry
from outlast.worker.discover import ImportFailure


class _Line(msgspec.Struct, frozen=True, array_like=True, tag_field="kind"):
    pass


class Ready(_Line, tag="ready", frozen=True, array_like=True):
    """The user's code is loaded."""

    manifest: Manifest
    failures: list[ImportFailure]


class Pulse(_Line, tag="pulse", frozen=True, array_like=True):
    """The event loop lives. `running` names what it executes (a few of them), for the log when it stops living."""

    lag_ms: float
    active: int
    running: list[str]
    joined: bool = True


class Over(_Line, tag="over", frozen=True, array_like=True):
    """The session is over in the server's eyes, or the server refuses this executor (`final`)."""

    reason: str
    final: bool


class Exhausted(_Line, tag="exhausted", frozen=True, array_like=True):
    """Every thread is stuck in code whose run was given up: this process can do nothing more."""


class Full(_Line, tag="full", frozen=True, array_like=True):
    """Many runs went cold here, whose coroutines only the end of the process frees."""


class Idle(_Line, tag="idle", frozen=True, array_like=True):
    """Drained: nothing is held and nothing waits for an answer."""


class Assign(_Line, tag="assign", frozen=True, array_like=True):
    """Join this session."""

    url: str
    session: str
    token: str
    is_dev: bool
    env_vars: dict[str, str]


class Stop(_Line, tag="stop", frozen=True, array_like=True):
    """Take nothing new; after `seconds` give back what still runs."""

    seconds: float


class Pause(_Line, tag="pause", frozen=True, array_like=True):
    """Begin nothing (`on`): the lease is in doubt; or go on."""

    on: bool


class CancelRun(_Line, tag="cancel", frozen=True, array_like=True):
    run_id: str
    epoch: int
    grace_ms: int


class TaskTerms(msgspec.Struct, frozen=True, array_like=True):
    """What holds for a task's runs around their processes, where those cannot see to it themselves."""

    max_duration: float | None = None
    retry: Retry | None = None
    machine: str | None = None
    isolated: bool = True  # not: its runs are here only when they are suspects, and no limit of memory is theirs


class Terms(_Line, tag="terms", frozen=True, array_like=True):
    """Of a zygote: said before `ready`. `cannot_fork` says why, where it does not."""

    tasks: dict[str, TaskTerms]
    cold_after: float
    retries_in_dev: bool
    cannot_fork: str = ""


class Ended(_Line, tag="ended", frozen=True, array_like=True):
    """The process of a run ended. `status` as of `subprocess`; None: it could not be started."""

    number: int
    status: int | None
    cpu_ms: int = 0
    peak_memory: int = 0  # bytes


class Born(_Line, tag="born", frozen=True, array_like=True):
    """The process of a run began: whom to end when the zygote cannot."""

    number: int
    pid: int


Line = Ready | Terms | Ended | Born | Pulse | Over | Exhausted | Full | Idle | Assign | Stop | Pause | CancelRun
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Line).decode
_LENGTH = struct.Struct(">I")


def pack(line: Line) -> bytes:
    """For an end that has no event loop."""
    return framed(_encode(line))


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


class Control(Protocol):
    """One end of a line."""

    def send(self, line: Line) -> None: ...
    async def receive(self) -> Line | None:
        """The next line; None when the other end is gone."""
        ...

    def close(self) -> None: ...


class FrameLine:
    """One end of a line of bytes, over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        end.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=end)
        return cls(reader, writer)

    def put(self, body: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(framed(body))

    async def get(self) -> bytes | None:
        """The next one; None when the other end is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        self._writer.close()


class ControlLine(FrameLine):
    """One end of a line of control messages."""

    def send(self, line: Line) -> None:
        self.put(_encode(line))

    async def receive(self) -> Line | None:
        body = await self.get()
        return None if body is None else _decode(body)
