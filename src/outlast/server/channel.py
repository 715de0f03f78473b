"""The worker's channel: sessions, executors and their room, pushes and completions. One frame is one list of messages."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from outlast import faults
from outlast.engine import attempts
from outlast.engine.claim import Claimed, Demand
from outlast.engine.engine import Engine
from outlast.engine.view import Pushed, Told
from outlast.model.lane import kind_of
from outlast.model.limits import CANCEL_GRACE_MS
from outlast.model.messages import (
    Abandon,
    CancelPush,
    Completion,
    HeldRun,
    Resume,
    Variables,
)
from outlast.model.requests import (
    GiveBack,
)
from outlast.server.connected import Connection, ConnectionClosed, Executor, Outbox, WorkerSession
from outlast.server.peer import Peer
from outlast.server.push import run_push
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.channel")

VARIABLES = "env-vars"  # the topic that tells of their changes


async def _no_variables(_: int) -> Variables:
    return Variables()


class Channel:
    """All workers connected to this server."""

    def __init__(
        self, engine: Engine, *, server_id: str, secret: bytes | None = None, variables: Callable[[int], Awaitable[Variables]] | None = None
    ) -> None:
        self.engine = engine
        self.server_id = server_id
        # executors prove that their supervisor sent them; a secret per database lets them join at any server
        self._secret = secret or secrets.token_bytes(32)
        self.variables = variables or _no_variables  # what runs of an environment find in theirs
        self._sessions: dict[str, WorkerSession] = {}
        self._background: set[asyncio.Future[Any]] = set()
        engine.demand = self.demand
        engine.connected = lambda: self._sessions.keys()
        engine.deliver = self.deliver
        engine.tell = self.tell
        engine.push = self.push
        engine.on_topic(self._heard)

    # ---- what the engine asks

    def demand(self) -> list[Demand]:
        return [d for s in self._sessions.values() if not s.draining for x in s.executors.values() for d in x.demands()]

    def deliver(self, claimed: list[Claimed]) -> None:
        for c in claimed:
            session = self._sessions.get(c.session)
            executor = session.executors.get(c.executor) if session else None
            if executor is None:
                # it left between the claim's look and its commit
                self._later(self.engine.submit(attempts.give_back, GiveBack(run_id=c.run.id, epoch=c.run.epoch, reason="not_started")))
                continue
            executor.hold(c.run.id, c.run.epoch, kind_of(c.run.route))
            if c.is_hot:
                self._resume(executor.outbox, c)
                continue
            self._forget_coroutine(c)
            executor.outbox.put(run_push(c))

    def _resume(self, outbox: Outbox, c: Claimed) -> None:
        if c.run.cancel_asked is None:
            return outbox.put(Resume(c.run.id, c.run.epoch, c.entries))
        outbox.put(Resume(c.run.id, c.run.epoch, []))
        return outbox.put(CancelPush(c.run.id, c.run.epoch, CANCEL_GRACE_MS))

    def _forget_coroutine(self, c: Claimed) -> None:
        """The run goes on elsewhere, by its journal: the coroutine that waited for it is of no use any more."""
        session = self._sessions.get(c.before.held_by or "")
        executor = session.executors.get(c.before.executor or "") if session else None
        if executor is not None and c.before.resuming:
            executor.outbox.put(Abandon([HeldRun(c.run.id, c.before.epoch, c.before.attempt, executor.name)]))

    def tell(self, told: list[Told]) -> None:
        for t in told:
            # all of them: of a run that waits nothing is kept here, and who does not have it does nothing
            for executor in self._executors(t.session):
                executor.outbox.put(CancelPush(t.run_id, t.epoch, CANCEL_GRACE_MS))

    def push(self, pushed: list[Pushed]) -> None:
        for p in pushed:
            for executor in self._executors(p.session):
                held = executor.held.get(p.run_id)
                if held is not None and held[0] == p.epoch:
                    executor.outbox.put(Completion(p.run_id, p.epoch, p.entry))

    def _executors(self, session: str) -> Iterable[Executor]:
        found = self._sessions.get(session)
        return found.executors.values() if found is not None else ()

    # ---- connections

    async def serve(self, connection: Connection, env_id: int | None) -> None:
        """Speak with one connection until it ends. `env_id` is None for an executor, which proves itself by its token."""
        outbox = Outbox(connection)
        writer = asyncio.get_running_loop().create_task(outbox.run())
        state = Peer(self, outbox, env_id)
        try:
            while True:
                frame = await connection.receive()
                if faults.drops("channel.receive"):
                    return
                for message in frame:
                    await state.handle(message)
        except ConnectionClosed:
            pass
        except DatabaseError as error:  # the worker comes back and asks again
            log.warning("a worker was sent away: the database did not answer", extra={"error": str(error)})
        finally:
            writer.cancel()
            state.gone()
            await connection.close()

    def _heard(self, env_id: int, topic: str) -> None:
        for session in [s for s in self._sessions.values() if topic == VARIABLES and s.env_id == env_id]:
            self.engine.spawn(self.tell_variables(session))

    async def tell_variables(self, session: WorkerSession) -> None:
        """Changed variables, and those of a worker that came back. Asked at each beat too: what tells of changes may be lost."""
        with contextlib.suppress(DatabaseError):
            found = await self.variables(session.env_id)
            if found != session.variables:
                session.variables = found
                session.outbox.put(found)

    def token(self, session: str) -> str:
        return hmac.new(self._secret, session.encode(), hashlib.sha256).hexdigest()

    def session(self, id: str) -> WorkerSession | None:
        return self._sessions.get(id)

    def add(self, session: WorkerSession) -> None:
        self._sessions[session.id] = session

    def remove(self, session: WorkerSession) -> None:
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]

    def _later(self, future: asyncio.Future[Any]) -> None:
        self._background.add(future)
        future.add_done_callback(self._settled)

    def _settled(self, future: asyncio.Future[Any]) -> None:
        self._background.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            log.error("a write for a worker failed", exc_info=error)

    later = _later
