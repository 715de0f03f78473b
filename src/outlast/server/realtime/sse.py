"""Server-sent events over ASGI: pings while nothing comes, an end when the client goes away or reads too slowly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from outlast.server.problem import Problem
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.realtime")

PING_SECONDS = 15.0  # proxies close what says nothing for half a minute
SLOW_SECONDS = 30.0  # a client that takes nothing for so long is let go; it resumes with the id it had last
CHECK_SECONDS = 20.0  # a key that is revoked is known to be within 30 s more: its streams end within a minute
PING = b": ping\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",  # a proxy that collects answers would hold every event back
}


def event(data: bytes, *, id: str | None = None, name: str | None = None) -> bytes:
    """One event. JSON holds no line break, so its data is one line."""
    head = b"" if id is None else f"id: {id}\n".encode()
    return head + (b"" if name is None else f"event: {name}\n".encode()) + b"data: " + data + b"\n\n"


class EventStream(Response):
    """Sends what the generator yields until it ends. `release` is called then. `patience`: seconds for a client that takes nothing.

    `check` raises a Problem as soon as who asked may not ask any more; then the stream ends.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        release: Callable[[], None],
        headers: dict[str, str] | None = None,
        *,
        check: Callable[[], Awaitable[object]],
        check_seconds: float = CHECK_SECONDS,
        patience: float = SLOW_SECONDS,
    ) -> None:
        super().__init__(status_code=200, headers={**HEADERS, **(headers or {})})
        self._events = events
        self._release = release
        self._check = check
        self._check_seconds = check_seconds
        self._patience = patience
        if "content-length" in self.headers:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(until_gone(receive))
        barred = asyncio.ensure_future(self._until_barred())
        try:
            await asyncio.wait({sending, gone, barred}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except TimeoutError:
            log.info("a slow reader was let go", extra={"path": scope["path"]})
        finally:
            for task in (sending, gone, barred):
                task.cancel()
            await asyncio.gather(sending, gone, barred, return_exceptions=True)
            await self._events.aclose()
            self._release()

    async def _until_barred(self) -> None:
        while True:
            await asyncio.sleep(self._check_seconds)
            try:
                await self._check()
            except Problem:
                return
            except DatabaseError:
                continue  # nobody can say now

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self._events:
            async with asyncio.timeout(self._patience):
                await send(_body(part, more=True))
        await send(_body(b"", more=False))


def _body(part: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": part, "more_body": more}


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
