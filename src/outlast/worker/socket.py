"""A WebSocket to the server, over the protocol core of `websockets`: its asyncio layer costs each small frame twice as much."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from outlast.worker.connection import ConnectionClosed

MAX_MESSAGE: Final = 64 * 1024 * 1024  # bytes
OPEN_SECONDS: Final = 10.0
PING_SECONDS: Final = 10.0  # a peer that vanished without a word is noticed within three of them
CLOSE_SECONDS: Final = 5.0
_WHOLE = (Opcode.BINARY, Opcode.TEXT)


class Socket(asyncio.Protocol):
    """One connection: whole messages of bytes, kept alive by pings. `recv` is for one task."""

    def __init__(self, protocol: ClientProtocol, headers: dict[str, str]) -> None:
        self._protocol = protocol
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] = self._loop.create_future()  # the handshake
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._messages: deque[bytes] = deque()
        self._parts: list[bytes] = []  # of a message in several frames
        self._reader: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None  # the peer reads slowly: until it has caught up
        self._unheard = 0  # pings since we last heard anything
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, address: str, headers: dict[str, str]) -> Socket:
        """Connect and shake hands.

        Raises:
            InvalidStatus: the server answered with another status.
            OSError, TimeoutError, WebSocketException: it cannot be reached, or speaks something else.
        """
        uri = parse_uri(address)
        async with asyncio.timeout(OPEN_SECONDS):
            socket = cls(ClientProtocol(uri, max_size=MAX_MESSAGE), headers)
            await socket._loop.create_connection(lambda: socket, uri.host, uri.port, ssl=True if uri.secure else None)
            try:
                await socket._answered
            except BaseException:
                socket._abort()
                raise
        socket._timer = socket._loop.call_later(PING_SECONDS, socket._ping)
        return socket

    async def send(self, message: bytes) -> None:
        """Hand a message to the network; waits while the peer does not read.

        Raises:
            ConnectionClosed: the connection is gone.
        """
        if self._gone.done():
            raise ConnectionClosed(self._why())
        try:
            self._protocol.send_binary(message)
        except WebSocketException as error:  # it is closing
            raise ConnectionClosed(str(error)) from error
        self._flush()
        if self._writable is not None:
            await self._writable

    async def recv(self) -> bytes:
        """The next message.

        Raises:
            ConnectionClosed: the connection is gone, and what came before it is read.
        """
        while not self._messages:
            if self._gone.done():
                raise ConnectionClosed(self._why())
            self._reader = self._loop.create_future()
            await self._reader
        return self._messages.popleft()

    async def close(self) -> None:
        """Say goodbye; a peer that does not answer is hung up on."""
        if not self._gone.done():
            try:
                self._protocol.send_close(1000)
                self._flush()
            except WebSocketException:
                self._abort()
            self._hang_up_soon()
            await asyncio.shield(self._gone)

    # ---- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        request = self._protocol.connect()
        for name, value in self._headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._unheard = 0
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Response):
                self._handshake()
        self._flush()
        if self._protocol.close_expected():
            self._hang_up_soon()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        if self._timer is not None:
            self._timer.cancel()
        if not self._gone.done():
            self._gone.set_result(None)
        self._handshake()
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # ---- inside

    def _handshake(self) -> None:
        if self._answered.done():
            return
        error = self._protocol.handshake_exc
        if error is None and self._gone.done():
            error = ConnectionResetError("the server hung up")
        if error is not None:
            self._answered.set_exception(error)
        else:
            self._answered.set_result(None)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in _WHOLE and frame.fin:
            self._messages.append(bytes(frame.data))
        elif frame.opcode in _WHOLE or frame.opcode is Opcode.CONT:
            self._parts.append(bytes(frame.data))
            if not frame.fin:
                return
            self._messages.append(b"".join(self._parts))
            self._parts.clear()
        else:
            return
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()

    def _ping(self) -> None:
        if self._unheard >= 2:
            return self._abort()
        self._unheard += 1
        try:
            self._protocol.send_ping(b"")
            self._flush()
        except WebSocketException:
            return self._abort()
        self._timer = self._loop.call_later(PING_SECONDS, self._ping)
        return None

    def _hang_up_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_SECONDS, self._abort)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _why(self) -> str:
        return str(self._protocol.close_exc)
