"""A TCP proxy in user space: connections go to some backend, are reset, stand still for a while, or lose an answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

Backend = int | Path  # a port of this machine, or a Unix socket


class Balancer:
    def __init__(self, backends: Sequence[Backend] = (), *, lost_answers: float = 0.0) -> None:
        """`lost_answers`: the share of HTTP answers in whose place the connection is reset."""
        self.backends = backends
        self.port = 0
        self._lost_answers = lost_answers
        self._server: asyncio.Server | None = None
        self._pairs: dict[int, list[asyncio.StreamWriter]] = {}
        self._still_until = 0.0
        self._still: set[int] = set()
        self._cut_until = 0.0
        self._numbers = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.reset(1.0)

    def reset(self, share: float) -> None:
        """RST at both ends."""
        for writers in list(self._pairs.values()):
            if random.random() < share:
                _abort(writers)

    def stand_still(self, share: float, seconds: float) -> None:
        """A partition of some connections: what is sent arrives when it is over."""
        self._still = {n for n in self._pairs if random.random() < share}
        self._still_until = asyncio.get_running_loop().time() + seconds

    def cut(self, seconds: float) -> None:
        """A partition of all, those to come too: they are made, and nothing is heard."""
        self._cut_until = asyncio.get_running_loop().time() + seconds

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._numbers += 1
        number = self._numbers
        await self._passed(number)
        try:
            there, back = await self._some_backend()
        except OSError:
            writer.transport.abort()
            return
        self._pairs[number] = [writer, back]
        await asyncio.gather(self._pipe(number, reader, back), self._pipe(number, there, writer, self._lost_answers))
        self._pairs.pop(number, None)

    async def _some_backend(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for backend in random.sample(self.backends, len(self.backends)):
            with contextlib.suppress(OSError):
                if isinstance(backend, Path):
                    return await asyncio.open_unix_connection(backend)
                return await asyncio.open_connection("127.0.0.1", backend)
        raise ConnectionRefusedError

    async def _passed(self, number: int) -> None:
        """When what stands still goes on."""
        loop = asyncio.get_running_loop()
        while (until := max(self._cut_until, self._still_until if number in self._still else 0.0)) > loop.time():
            await asyncio.sleep(until - loop.time())

    async def _pipe(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: float = 0.0) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._passed(number)
                if lost and data.startswith(b"HTTP/1.1 2") and random.random() < lost:
                    _abort(self._pairs[number])
                    return
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


def _abort(writers: Sequence[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()
