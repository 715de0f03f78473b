"""A proxy as people put before a server: below a path, and holding answers back until they are whole unless it is told not to."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from outlast.cli import serving

HOP = ("content-length", "content-encoding", "transfer-encoding", "connection")


class Proxy:
    """`prefix` is taken off the path. Clients are told from which address they came, and under which name (nginx: `Host $http_host`)."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.target = ""
        self.elsewhere: list[str] = []  # asked for outside the prefix
        self.http = httpx.AsyncClient(timeout=60)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (await self._answer(Request(scope, receive)))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if not request.url.path.startswith(self.prefix + "/"):
            self.elsewhere.append(request.url.path)
            return Response("not ours", 404)
        url = self.target + request.url.path.removeprefix(self.prefix) + (f"?{request.url.query}" if request.url.query else "")
        headers = [(k, v) for k, v in request.headers.items() if k not in ("content-length", "connection", "accept-encoding")]
        asked = self.http.build_request(request.method, url, headers=headers, content=await request.body())
        answer = await self.http.send(asked, stream=True)
        kept = [(k.encode(), v.encode()) for k, v in answer.headers.multi_items() if k not in HOP]
        if answer.headers.get("x-accel-buffering") == "no":
            response: Response = StreamingResponse(_parts(answer), answer.status_code)
        else:
            response = Response(await answer.aread(), answer.status_code)
            await answer.aclose()
            kept.append((b"content-length", str(len(response.body)).encode()))
        response.raw_headers = kept
        return response


async def _parts(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()


@asynccontextmanager
async def proxying(proxy: Proxy, listening: socket.socket) -> AsyncIterator[None]:
    server = serving.Server(uvicorn.Config(proxy, loop="none", log_config=None, lifespan="off", proxy_headers=False))
    server.before_shutdown = lambda: None
    server.config.timeout_graceful_shutdown = 1
    async with proxy.http, serving.serving(server, listening):
        yield
