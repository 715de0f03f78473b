"""A small server for workers: hands out runs, keeps what comes back. It speaks the real frames, over a socket or in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import WebSocketException

from outlast.model.manifest import Kind
from outlast.model.messages import (
    Attach,
    Attached,
    Beat,
    BeatOk,
    CancelPush,
    Credit,
    Done,
    FromWorker,
    HeldRun,
    Hello,
    Join,
    Joined,
    Log,
    LogLine,
    Ok,
    Release,
    RunPush,
    SessionLost,
    ToWorker,
    Variables,
    Welcome,
    decode_from_worker,
    encode_frame,
)
from outlast.worker.connection import ConnectionClosed

PATIENCE = 30.0  # seconds: generous, the machine may be busy; nothing waits this long when all is well
T = TypeVar("T")


class Peer:
    """One connection of a worker, as the desk sees it."""

    def __init__(self, send: Callable[[list[ToWorker]], Any], close: Callable[[], Any]) -> None:
        self.send = send
        self.close = close
        self.executor: str | None = None
        self.credit = Credit(0, 0)
        self.is_open = True

    def room(self, kind: Kind) -> int:
        return getattr(self.credit, f"{kind}_slots")


class Desk:
    def __init__(self) -> None:
        self.received: list[FromWorker] = []
        self.peers: list[Peer] = []
        self.env = "prod"
        self.env_vars: dict[str, str] = {}
        self.lease_ms = 30_000
        self.answers = True  # to `done` and `release`
        self.answers_beats = True
        self.is_elsewhere = False  # the worker of who joins is connected to another server
        self.suspects = False
        self.cancels: list[HeldRun] = []  # told with every answer to a beat
        self.patience = PATIENCE
        self.abandon_at_join: list[HeldRun] = []
        self.on_done: Callable[[Done], list[ToWorker]] | None = None
        self.url = ""
        self._sessions = 0
        self._runs = 0
        self._sending: set[asyncio.Future[None]] = set()
        self._changed = asyncio.Condition()
        self._server: Server | None = None

    # ---- what tests ask

    def push(self, task: str, payload: Any = None, *, kind: Kind = "async", run_id: str | None = None, **fields: Any) -> str:
        """Hand a run to an executor that has room for it."""
        self._runs += 1
        run_id = run_id or f"run_{self._runs}"
        peer = self.executor(kind)
        sending = asyncio.ensure_future(_quiet(peer.send([run_push(run_id, task, payload, **fields)])))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        return run_id

    def executor(self, kind: Kind = "async") -> Peer:
        for peer in self.peers:
            if peer.is_open and peer.room(kind):
                return peer
        raise AssertionError(f"no executor for {kind} runs")

    async def tell(self, *messages: ToWorker, kind: Kind = "async") -> None:
        await self.executor(kind).send(list(messages))

    async def cancel(self, run_id: str, grace_ms: int = 30_000, kind: Kind = "async", epoch: int = 1) -> None:
        await self.tell(CancelPush(run_id, epoch, grace_ms), kind=kind)

    async def until(self, ready: Callable[[], T], what: str = "") -> T:
        """Wait until `ready` gives something true."""
        async with asyncio.timeout(self.patience), self._changed:
            try:
                await self._changed.wait_for(ready)
            except (TimeoutError, asyncio.CancelledError) as error:
                raise AssertionError(f"waited for {what or ready}; received: {self.received[-20:]}") from error
            return ready()

    async def ready(self, kind: Kind = "async") -> None:
        def has_room() -> bool:
            return any(p.is_open and p.room(kind) for p in self.peers)

        await self.until(has_room, f"an executor for {kind} runs")

    async def done(self, run_id: str, count: int = 1) -> Done:
        """The `count`th end of an attempt of a run."""
        return await self.until(lambda: (self.dones(run_id)[count - 1 : count] or [None])[0], f"done of {run_id}")  # type: ignore[return-value]

    def dones(self, run_id: str | None = None) -> list[Done]:
        return [m for m in self.of(Done) if run_id in (None, m.run_id)]

    def of(self, kind: type[T]) -> list[T]:
        return [m for m in self.received if isinstance(m, kind)]

    async def first(self, kind: type[T], ready: Callable[[T], bool] = lambda _: True) -> T:
        found = await self.until(lambda: [m for m in self.of(kind) if ready(m)], kind.__name__)
        return found[0]

    def lines(self, run_id: str) -> list[LogLine]:
        return [line for log in self.of(Log) for line in log.lines if line.run_id == run_id]

    async def line(self, run_id: str, text: str) -> LogLine:
        found = await self.until(lambda: [x for x in self.lines(run_id) if text in x.message], f"the line {text!r}")
        return found[0]

    def texts(self, run_id: str) -> list[str]:
        return [line.message for line in self.lines(run_id)]

    # ---- the protocol

    async def hear(self, peer: Peer, messages: Sequence[FromWorker]) -> None:
        for message in messages:
            answer = self._answer(peer, message)
            async with self._changed:
                self.received.append(message)
                self._changed.notify_all()
            if answer:
                await _quiet(peer.send(answer))

    def _answer(self, peer: Peer, message: FromWorker) -> list[ToWorker]:
        match message:
            case Hello():
                self._sessions += 1
                return [Welcome(f"s{self._sessions}", "20260101.1", self.lease_ms, "token", self.env, 0, Variables(self.env_vars))]
            case Attach():
                return [Attached(self.lease_ms)]
            case Beat():
                return [BeatOk(message.n, self.lease_ms, self.cancels, self.suspects)] if self.answers_beats else []
            case Join() if self.is_elsewhere:
                return [SessionLost("the worker of this executor is not connected here")]
            case Join():
                peer.executor = message.executor
                return [Joined(message.executor, self.abandon_at_join)]
            case Credit():
                peer.credit = message
                return []
            case Done() if self.on_done is not None:
                return self.on_done(message)
            case Done() if self.answers:
                again = message.outcome == "retry" and message.retry_delay_ms < 30_000
                return [Ok(message.n, message.attempt + 1 if again else None)]
            case Release() if self.answers:
                return [Ok(message.n)]
            case _:
                return []

    async def gone(self, peer: Peer) -> None:
        async with self._changed:
            peer.is_open = False
            self._changed.notify_all()

    # ---- over a socket

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", 0, max_size=64 * 1024 * 1024, compression=None)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def drop(self) -> None:
        """Every connection ends; the server stays."""
        for peer in list(self.peers):
            await peer.close()

    async def _serve(self, socket: ServerConnection) -> None:
        async def send(messages: list[ToWorker]) -> None:
            await socket.send(encode_frame(messages))

        peer = Peer(send, socket.close)
        self.peers.append(peer)
        try:
            while True:
                await self.hear(peer, decode_from_worker(await socket.recv()))  # type: ignore[arg-type]
        except WebSocketException:
            await self.gone(peer)

    # ---- in memory

    async def connect(self) -> InMemory:
        """A worker's end of a connection to this desk."""
        made = InMemory(self)
        self.peers.append(made.peer)
        return made


async def _quiet(sending: Any) -> None:
    """A worker that is gone hears nothing; its absence is what the test looks at."""
    try:
        await sending
    except (WebSocketException, ConnectionClosed):
        return


class InMemory:
    """The worker's end of a pair in memory."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._frames: asyncio.Queue[list[ToWorker] | None] = asyncio.Queue()
        self._over = False
        self.peer = Peer(self._deliver, self._end)

    async def _deliver(self, messages: list[ToWorker]) -> None:
        self._frames.put_nowait(messages)

    async def _end(self) -> None:
        self._frames.put_nowait(None)
        await self._desk.gone(self.peer)

    async def send(self, messages: Sequence[FromWorker]) -> None:
        if self._over or not self.peer.is_open:
            raise ConnectionClosed
        await self._desk.hear(self.peer, messages)

    async def receive(self) -> list[ToWorker]:
        frame = await self._frames.get()
        if frame is None:
            self._over = True
            raise ConnectionClosed
        return frame

    async def close(self) -> None:
        self._over = True
        self._frames.put_nowait(None)  # who still reads is told, as by a socket
        await self._desk.gone(self.peer)


def run_push(run_id: str, task: str, payload: Any = None, **fields: Any) -> RunPush:
    attempt = fields.pop("attempt", 1)
    context: dict[str, Any] = {
        "task": {"id": task},
        "attempt": {"number": attempt, "startedAt": 1_700_000_000_000},
        "run": {"id": run_id, "tags": [], "isTest": False, "isReplay": False, "createdAt": 0, "startedAt": 0, "losses": 0},
        "queue": {"id": "1", "name": f"task/{task}"},
        "environment": {"id": "1", "slug": "prod", "type": "PRODUCTION"},
    }
    values: dict[str, Any] = {
        "run_id": run_id,
        "epoch": 1,
        "attempt": attempt,
        "task": task,
        "version": "20260101.1",
        "payload": None if payload is None else json.dumps(payload),
        "payload_type": "application/json",
        "metadata": None,
        "context": context,
        "max_attempts": None,
        "max_duration": None,
    }
    return RunPush(**{**values, **fields})


@asynccontextmanager
async def open_desk() -> AsyncIterator[Desk]:
    desk = Desk()
    await desk.start()
    try:
        yield desk
    finally:
        await desk.stop()
