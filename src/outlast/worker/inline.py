"""A worker inside another program: no child processes, one loop, the channel in memory. `Outlast()` runs it on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from outlast.config import Config
from outlast.model.limits import CANCEL_GRACE_MS, HEARTBEAT_MS
from outlast.model.manifest import PROTOCOL, Manifest
from outlast.model.messages import Beat, BeatOk, Bye, Hello, Rejected, SessionLost, Welcome
from outlast.worker.connection import Connection, ConnectionClosed
from outlast.worker.core import ExecutorCore, SessionEnded

log = logging.getLogger("outlast.worker")


class InlineWorker:
    """Says hello with what is registered now, and works until `stop`. There are no processes, also not for tasks that ask for one."""

    def __init__(
        self, connect: Callable[[bool], Connection], manifest: Manifest, *, config: Config, async_slots: int = 250, thread_slots: int = 16
    ) -> None:
        self._connect = connect
        self._manifest = manifest
        self._core = ExecutorCore("inline", config=config, is_dev=True, async_slots=async_slots, thread_slots=thread_slots)
        self.ready = asyncio.Event()
        self._supervisor: Connection | None = None
        self._executor: Connection | None = None
        self._helpers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def run(self) -> None:
        """Session after session: one is over when the engine's loop stood still for longer than the lease.

        Raises:
            ConnectionClosed: the server does not take this worker; the message says why.
        """
        while not self._stopping:
            await self._session()
            if not self._stopping:
                log.error("the embedded worker's session is over: it begins another")
                self._core.abandon_all()

    async def _session(self) -> None:
        supervisor = self._supervisor = self._connect(True)
        await supervisor.send([Hello(PROTOCOL, "embedded", "embedded", self._manifest, True)])
        [welcome] = await supervisor.receive()
        if isinstance(welcome, Rejected):
            raise ConnectionClosed(welcome.message, final=True)
        assert isinstance(welcome, Welcome), welcome
        executor = self._executor = self._connect(False)
        loop = asyncio.get_running_loop()
        self._helpers = [loop.create_task(self._beat(supervisor)), loop.create_task(self._listen(supervisor, executor))]
        self.ready.set()
        try:
            with contextlib.suppress(ConnectionClosed, SessionEnded):
                await self._core.serve(executor, welcome.session, welcome.token)
        finally:
            for helper in self._helpers:
                helper.cancel()
            if not self._stopping:
                await supervisor.close()

    async def stop(self, seconds: float) -> None:
        """Let runs end for so long, give back the rest, say goodbye."""
        self._stopping = True
        self._core.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._core.idle.wait(), seconds)
        self._core.give_back()
        await self._core.answered()
        for helper in self._helpers:
            helper.cancel()
        if self._supervisor is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._supervisor.send([Bye()])
            await self._supervisor.close()
        if self._executor is not None:
            await self._executor.close()

    async def _beat(self, connection: Connection) -> None:
        n = 0
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(HEARTBEAT_MS / 1_000)
                n += 1
                await connection.send([Beat(n)])

    async def _listen(self, supervisor: Connection, executor: Connection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                for message in await supervisor.receive():
                    match message:
                        case SessionLost():
                            return await executor.close()
                        case BeatOk():
                            for run in message.cancel:
                                self._core.stopping.cancel(run.run_id, run.epoch, CANCEL_GRACE_MS)
                        case _:
                            pass
