"""A lean HTTP/1.1 load client: the benchmark measures the server, not the client's library."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any


class Pipe(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Pipe:
        _, pipe = await asyncio.get_running_loop().create_connection(cls, host, port)
        return pipe

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        status = int(head[9:12])
        assert self._answer is not None
        if status >= 300:
            self._answer.set_exception(RuntimeError(f"{status}: {body[:300]!r}"))
        else:
            self._answer.set_result(body)

    async def send(self, method: str, path: str, key: str, body: bytes = b"") -> bytes:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"x-trigger-request-idempotency-key: {uuid.uuid4()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        return await self._answer

    def header(self, name: str) -> str:
        """Of the last answer, in lower case."""
        _, _, rest = self._head.partition(f"\r\n{name}: ".encode())
        return rest.partition(b"\r\n")[0].decode()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


TRIGGER = "/api/v1/tasks/bench.run.noop/trigger"
BODY = json.dumps({"payload": '{"n":1}', "options": {"payloadType": "application/json", "ttl": "1d"}}).encode()


def batch_body(count: int) -> bytes:
    item: dict[str, Any] = {"task": "bench.run.noop", "payload": '{"n":1}', "options": {"payloadType": "application/json", "ttl": "1d"}}
    return json.dumps({"items": [item] * count}).encode()
