"""A worker inside another program: no child processes, one loop, the channel in memory. `Outlast()` runs it on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from outlast.config import Config
from outlast.model.limits import HEARTBEAT_MS
from outlast.model.manifest import PROTOCOL, Manifest
from outlast.model.messages import Beat, Bye, Hello, SessionLost, Welcome
from outlast.worker.connection import Connection, ConnectionClosed
from outlast.worker.core import ExecutorCore, SessionEnded

log = logging.getLogger("outlast.worker")


class InlineWorker:
    """Says hello with what is registered now, and works until `stop`. Task isolation does not exist here."""

    def __init__(
        self, connect: Callable[[bool], Connection], manifest: Manifest, *, config: Config, async_slots: int = 250, thread_slots: int = 16
    ) -> None:
        self._connect = connect
        self._manifest = manifest
        self._core = ExecutorCore("inline", config=config, is_dev=True, async_slots=async_slots, thread_slots=thread_slots)
        self.ready = asyncio.Event()
        self._supervisor: Connection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        supervisor = self._supervisor = self._connect(True)
        await supervisor.send([Hello(PROTOCOL, "embedded", "embedded", self._manifest, True)])
        [welcome] = await supervisor.receive()
        assert isinstance(welcome, Welcome), welcome
        self._tasks = [asyncio.create_task(self._beat(supervisor)), asyncio.create_task(self._listen(supervisor))]
        connection = self._connect(False)
        self.ready.set()
        with contextlib.suppress(ConnectionClosed, SessionEnded):
            await self._core.serve(connection, welcome.session, welcome.token)

    async def stop(self, seconds: float) -> None:
        """Let runs end for so long, give back the rest, say goodbye."""
        self._core.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._core.idle.wait(), seconds)
        self._core.give_back()
        await self._core.answered()
        if self._supervisor is not None:
            await self._supervisor.send([Bye()])
            await self._supervisor.close()
        for task in self._tasks:
            task.cancel()

    async def _beat(self, connection: Connection) -> None:
        n = 0
        while True:
            await asyncio.sleep(HEARTBEAT_MS / 1_000)
            n += 1
            await connection.send([Beat(n)])

    async def _listen(self, connection: Connection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                for message in await connection.receive():
                    if isinstance(message, SessionLost):
                        log.error("the embedded worker's session is over", extra={"reason": message.reason})
