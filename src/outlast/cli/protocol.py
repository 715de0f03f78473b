"""uvicorn's HTTP protocol with limits on what comes before a request is one: how long its head may be, and how long it may take."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outlast.server.body import WHOLE

HEAD_SECONDS = 30.0  # from a connection, or the first byte of a further request, to the end of its headers
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_SILENT = 1_000  # connections of one address that have not said what they want: behind a proxy all are of one address


class Joined:
    """What answers are written to: the head is held until its body, or the end of the loop's round. One system call less an answer."""

    __slots__ = ("_held", "_loop", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class Protocol(HttpToolsProtocol):
    """A client that sends a byte a second, headers without end or a thousand of them is let go: it would cost others their place."""

    head_seconds = HEAD_SECONDS
    max_silent = MAX_SILENT
    _silent: ClassVar[Counter[str]] = Counter()  # by address
    _address = ""
    _late: asyncio.TimerHandle | None = None
    _reading_head = True
    _head_bytes = 0
    _is_refused = False
    _answers: Joined

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answers = Joined(transport, self.loop)
        self._address = (self.client or ("",))[0]
        self._await_head()
        if self._silent[self._address] > self.max_silent:
            self._refuse(b"503 Service Unavailable")

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._reading_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._reading_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._reading_head:  # a further request on this connection
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_is_read()
        assert self.parser is not None
        if self.parser.get_http_version() not in ("1.0", "1.1"):  # 0.9 has neither headers nor an end
            self._refuse(b"400 Bad Request")
            return
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse(b"431 Request Header Fields Too Large")
        else:
            super().on_headers_complete()
            if self.cycle:  # none for a request that becomes a websocket
                self.cycle.transport = self._answers  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_refused:
            self.scope[WHOLE] = True  # type: ignore[typeddict-unknown-key]
            super().on_message_complete()

    def _await_head(self) -> None:
        self._head_is_read()
        self._reading_head, self._head_bytes = True, 0
        self._silent[self._address] += 1
        self._late = self.loop.call_later(self.head_seconds, self._refuse, b"408 Request Timeout")

    def _head_is_read(self) -> None:
        self._reading_head = False
        if self._late is not None:
            self._late.cancel()
            self._late = None
            self._silent[self._address] -= 1
            if not self._silent[self._address]:
                del self._silent[self._address]

    def _refuse(self, status: bytes) -> None:
        self._head_is_read()
        self._is_refused = True
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()
