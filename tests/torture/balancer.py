"""A TCP load balancer in user space: each connection goes to some server; connections are reset, or stand still for a while."""

from __future__ import annotations

import asyncio
import contextlib
import random


class Balancer:
    def __init__(self) -> None:
        self.backends: list[int] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._pairs: dict[int, list[asyncio.StreamWriter]] = {}
        self._still_until = 0.0
        self._still: set[int] = set()
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
                for writer in writers:
                    writer.transport.abort()

    def stand_still(self, share: float, seconds: float) -> None:
        """A partition: what is sent arrives when it is over."""
        self._still = {n for n in self._pairs if random.random() < share}
        self._still_until = asyncio.get_running_loop().time() + seconds

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._numbers += 1
        number = self._numbers
        try:
            there, back = await self._some_backend()
        except OSError:
            writer.transport.abort()
            return
        self._pairs[number] = [writer, back]
        await asyncio.gather(self._pipe(number, reader, back), self._pipe(number, there, writer))
        self._pairs.pop(number, None)

    async def _some_backend(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in random.sample(self.backends, len(self.backends)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        raise ConnectionRefusedError

    async def _pipe(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if number in self._still and loop.time() < self._still_until:
                    await asyncio.sleep(self._still_until - loop.time())
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
