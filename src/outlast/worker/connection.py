"""One end of the channel to a server: a WebSocket, or half of a pair in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from outlast import faults
from outlast.model.messages import MAX_FRAME_MESSAGES, Done, FromWorker, Log, ToWorker, decode_to_worker, encode_frame

if TYPE_CHECKING:
    from outlast.worker.socket import Socket

PATH = "/api/outlast/v1/channel"
FRAME_CHARS = 1024 * 1024  # a frame is closed beyond this; one message may be larger by itself


class SessionEnded(Exception):
    """The worker's session is over, or not here yet: what is held under it counts no more when it does not come back."""


class ConnectionClosed(Exception):
    """The other end is gone. `final` when it makes no sense to come back (a wrong key)."""

    def __init__(self, message: str = "the connection is closed", *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Connection(Protocol):
    async def send(self, messages: Sequence[FromWorker]) -> None: ...
    async def receive(self) -> list[ToWorker]: ...
    async def close(self) -> None: ...


class WebSocketConnection:
    """Over the network."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    @classmethod
    async def open(cls, url: str, key: str | None) -> WebSocketConnection:
        """Connect to a server.

        Raises:
            ConnectionClosed: it cannot be reached, or refuses the key (final).
        """
        from websockets.exceptions import InvalidStatus, WebSocketException

        from outlast.worker.socket import Socket

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        address = "ws" + url.removeprefix("http").rstrip("/") + PATH
        try:
            socket = await Socket.open(address, headers)
        except InvalidStatus as error:
            refused = error.response.status_code in (401, 403)
            text = "the server refuses the key" if refused else f"the server answered {error.response.status_code}"
            raise ConnectionClosed(text, final=refused) from error
        except (OSError, WebSocketException, TimeoutError) as error:
            raise ConnectionClosed(f"no server at {url}: {error}") from error
        return cls(socket)

    async def send(self, messages: Sequence[FromWorker]) -> None:
        await self._socket.send(encode_frame(messages))

    async def receive(self) -> list[ToWorker]:
        try:
            return decode_to_worker(await self._socket.recv())
        except msgspec.DecodeError as error:
            raise ConnectionClosed(f"the server sent what is no frame: {error}") from error

    async def close(self) -> None:
        await self._socket.close()


class Outbox:
    """Messages of one loop turn leave as one frame, in order. What is put while nobody is connected is dropped."""

    def __init__(self, name: str = "executor") -> None:
        self._name = name
        self._connection: Connection | None = None
        self._waiting: list[FromWorker] = []
        self._ready = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def open(self, connection: Connection) -> None:
        """From now on messages are for this connection."""
        self._connection = connection

    def put(self, message: FromWorker) -> None:
        if self._connection is not None:
            self._waiting.append(message)
            self._empty.clear()
            self._ready.set()

    async def flushed(self) -> None:
        await self._empty.wait()

    async def run(self, connection: Connection) -> None:
        """Send what is put until the connection ends; `open` it first, `stop` it afterwards."""
        try:
            while True:
                await self._ready.wait()
                self._ready.clear()
                waiting, self._waiting = self._waiting, []
                for frame in frames(waiting):
                    if faults.drops(f"{self._name}.send"):
                        return await connection.close()
                    await connection.send(frame)
                if not self._waiting:
                    self._empty.set()
        except ConnectionClosed:
            return  # the reader sees it too, and acts
        finally:
            self.stop(connection)

    def stop(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            self._waiting.clear()
            self._ready.clear()
            self._empty.set()


def frames(messages: list[FromWorker]) -> Iterator[list[FromWorker]]:
    """Cut into frames that no peer refuses for their size."""
    start = chars = 0
    for i, message in enumerate(messages):
        size = _chars(message)
        if i > start and (i - start == MAX_FRAME_MESSAGES or chars + size > FRAME_CHARS):
            yield messages[start:i]
            start, chars = i, 0
        chars += size
    if start < len(messages):
        yield messages[start:] if start else messages


def _chars(message: FromWorker) -> int:
    if isinstance(message, Done):
        return len(message.output) if message.output is not None else (70_000 if message.error is not None else 100)
    return sum(len(line.message) for line in message.lines) if isinstance(message, Log) else 100
