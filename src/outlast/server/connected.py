"""Workers as this server knows them while they are connected: their sessions, executors, and the room those have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from outlast import faults
from outlast.engine.claim import Demand
from outlast.model.manifest import Kind
from outlast.model.messages import FromWorker, ToWorker, Variables

MAX_KNOWN = 20_000  # runs an executor is remembered to have been given


class Connection(Protocol):
    """One end of a channel: a WebSocket, or one half of a pair in memory."""

    async def send(self, messages: Sequence[ToWorker]) -> None: ...
    async def receive(self) -> list[FromWorker]:
        """The next frame.

        Raises:
            ConnectionClosed: the other end is gone.
        """
        ...

    async def close(self) -> None: ...


class ConnectionClosed(Exception):
    """The other end of a channel is gone."""


class Outbox:
    """Messages of one loop turn leave as one frame, in order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[ToWorker] = []
        self._ready = asyncio.Event()

    def put(self, message: ToWorker) -> None:
        self._waiting.append(message)
        self._ready.set()

    async def run(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            frame, self._waiting = self._waiting, []
            if faults.drops("channel.send"):
                return await self._connection.close()
            await self._connection.send(frame)


class Executor:
    """A connected executor: the room it has, and what it holds of it. Runs that wait hold none, and nothing here knows of them."""

    def __init__(self, name: str, session: WorkerSession, outbox: Outbox) -> None:
        self.name = name
        self.session = session
        self.outbox = outbox
        self.capacity: dict[Kind, int] = {"async": 0, "thread": 0, "process": 0}
        self.held: dict[str, tuple[int, Kind]] = {}  # run → (epoch, kind)
        self.known: set[str] = set()  # runs of its environment, as far as anybody looked: it may write to them

    def hold(self, run_id: str, epoch: int, kind: Kind) -> None:
        self.held[run_id] = (epoch, kind)
        self.know((run_id,))

    def know(self, run_ids: Iterable[str]) -> None:
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
        self.known.update(run_ids)

    def demands(self) -> list[Demand]:
        s, demands = self.session, list[Demand]()
        for kind, capacity in self.capacity.items():
            free = capacity - sum(1 for _, held in self.held.values() if held == kind)
            if free > 0:
                demands.append(Demand(s.env_id, s.id, s.version, self.name, kind, free))
        return demands


class WorkerSession:
    """A worker as this server knows it while it is connected here."""

    def __init__(self, id: str, env_id: int, version: str, outbox: Outbox) -> None:
        self.id = id
        self.env_id = env_id
        self.version = version
        self.outbox = outbox
        self.executors: dict[str, Executor] = {}
        self.astray: set[tuple[str, int]] = set()  # (run, epoch) of slots that nobody seems to work in, at the last beat
        self.draining = False
        self.variables: Variables | None = None  # that it was told last
