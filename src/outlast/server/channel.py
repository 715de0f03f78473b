"""The worker's channel: sessions, executors and their room, pushes and completions. One frame is one list of messages."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from functools import partial
from typing import Any

from outlast.engine import attempts, sessions
from outlast.engine.claim import Claimed, Demand
from outlast.engine.engine import Engine
from outlast.engine.view import Told
from outlast.model.lane import kind_of
from outlast.model.limits import LEASE_MS
from outlast.model.manifest import PROTOCOL
from outlast.model.messages import (
    Attach,
    Attached,
    Beat,
    BeatOk,
    Bye,
    CancelPush,
    Credit,
    Done,
    Drain,
    FromWorker,
    HeldRun,
    Hello,
    Join,
    Joined,
    Log,
    Lost,
    Ok,
    Refused,
    Rejected,
    Release,
    SessionLost,
    Welcome,
)
from outlast.model.refusal import Refusal
from outlast.model.requests import AppendLogs, Beats, CloseSession, Complete, Completed, GiveBack, Lose, OpenSession, TakeSession
from outlast.server.connected import Connection, ConnectionClosed, Executor, Outbox, WorkerSession
from outlast.server.push import run_push
from outlast.server.results import result_of
from outlast.store import catalog, lanes
from outlast.store.database import DatabaseError

log = logging.getLogger("outlast.channel")

CANCEL_GRACE_MS = 30_000
OVER = frozenset({"stale_epoch", "run_final", "run_cancelled", "not_found", "result_conflict"})


class Channel:
    """All workers connected to this server."""

    def __init__(self, engine: Engine, *, server_id: str, secret: bytes | None = None) -> None:
        self.engine = engine
        self.server_id = server_id
        # executors prove that their supervisor sent them; a secret per database lets them join at any server
        self._secret = secret or secrets.token_bytes(32)
        self._sessions: dict[str, WorkerSession] = {}
        self._background: set[asyncio.Future[Any]] = set()
        engine.demand = self.demand
        engine.deliver = self.deliver
        engine.tell = self.tell

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
            executor.held[c.run.id] = (c.run.epoch, kind_of(c.run.route))
            executor.outbox.put(run_push(c))

    def tell(self, told: list[Told]) -> None:
        for t in told:
            session = self._sessions.get(t.session)
            if session is None:
                continue
            for executor in session.executors.values():
                if t.run_id in executor.held:
                    executor.outbox.put(CancelPush(t.run_id, t.epoch, CANCEL_GRACE_MS))

    # ---- connections

    async def serve(self, connection: Connection, env_id: int | None) -> None:
        """Speak with one connection until it ends. `env_id` is None for an executor, which proves itself by its token."""
        outbox = Outbox(connection)
        writer = asyncio.get_running_loop().create_task(outbox.run())
        state = _Peer(self, outbox, env_id)
        try:
            while True:
                for message in await connection.receive():
                    await state.handle(message)
        except ConnectionClosed:
            pass
        finally:
            writer.cancel()
            state.gone()
            await connection.close()

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


class _Peer:
    """One connection: a supervisor after `hello` or `attach`, an executor after `join`."""

    def __init__(self, channel: Channel, outbox: Outbox, env_id: int | None) -> None:
        self.channel = channel
        self.engine = channel.engine
        self.outbox = outbox
        self.env_id = env_id
        self.sessions: list[WorkerSession] = []  # the newest last; older ones drain
        self.executor: Executor | None = None

    async def handle(self, message: FromWorker) -> None:
        match message:
            case Done():
                self._done(message)
            case Log():
                # off the critical path: nobody waits for it
                self.channel.later(self.engine.submit(attempts.append_logs, AppendLogs(lines=message.lines), bulk=True))
            case Release():
                self._release(message)
            case Credit():
                self._credit(message)
            case Beat():
                await self._beat(message)
            case Hello():
                await self._hello(message)
            case Attach():
                await self._attach(message)
            case Join():
                await self._join(message)
            case Lost():
                await self._lost(message)
            case Drain():
                for session in self.sessions:
                    session.draining = True
            case Bye():
                await self._bye()

    def gone(self) -> None:
        """The connection ended. Its session lives on in the database until it comes back, or its lease is over."""
        for session in self.sessions:
            self.channel.remove(session)
        if self.executor is not None and self.executor.session.executors.get(self.executor.name) is self.executor:
            del self.executor.session.executors[self.executor.name]

    # ---- supervisors

    async def _hello(self, hello: Hello) -> None:
        if self.env_id is None:
            return self.outbox.put(Rejected("unauthorized", "this connection has no API key"))
        if hello.protocol != PROTOCOL:
            text = f"the worker speaks protocol {hello.protocol}, this server {PROTOCOL}: install the same version of outlast on both"
            return self.outbox.put(Rejected("protocol", text))
        opened = await self.engine.call(
            sessions.open_session,
            OpenSession(
                env_id=self.env_id,
                server_id=self.channel.server_id,
                worker=hello.worker,
                boot_id=hello.boot_id,
                manifest=hello.manifest,
                promote=hello.promote,
            ),
        )
        for older in self.sessions:
            older.draining = True
        session = WorkerSession(opened.session, self.env_id, opened.version, self.outbox)
        self.sessions.append(session)
        self.channel.add(session)
        env_id = self.env_id
        env = await self.engine.read(lambda tx: catalog.environment(tx, env_id))
        env_vars = await self.engine.read(lambda tx: catalog.env_vars(tx, env_id))
        token = self.channel.token(session.id)
        log.info("worker connected", extra={"worker": hello.worker, "version": opened.version, "session": session.id})
        return self.outbox.put(
            Welcome(session.id, opened.version, LEASE_MS, token, env.slug, self.engine.clock.now(), env_vars),
        )

    async def _attach(self, attach: Attach) -> None:
        """A worker is back. Its executors join next, and only then get new runs."""
        if self.env_id is None:
            return self.outbox.put(Rejected("unauthorized", "this connection has no API key"))
        item = TakeSession(env_id=self.env_id, session=attach.session, server_id=self.channel.server_id)
        taken = await self.engine.call(sessions.take_session, item)
        if isinstance(taken, Refusal):
            return self.outbox.put(SessionLost(taken.message))
        session = WorkerSession(attach.session, self.env_id, taken.version, self.outbox)
        self.sessions.append(session)
        self.channel.add(session)
        log.info("worker is back", extra={"session": session.id})
        return self.outbox.put(Attached(LEASE_MS))

    async def _beat(self, beat: Beat) -> None:
        cancel: list[HeldRun] = []
        for session in self.sessions:
            try:
                answer = await self.engine.call(sessions.beat, Beats(session=session.id))
            except DatabaseError:
                return  # no answer: the worker's own clock decides when to stop
            if isinstance(answer, Refusal):
                if session is self.sessions[-1]:
                    self.outbox.put(SessionLost(answer.message))
                continue
            cancel += [HeldRun(run_id, epoch, 0, executor) for run_id, epoch, executor in answer]
        self.outbox.put(BeatOk(beat.n, LEASE_MS, cancel))

    async def _lost(self, lost: Lost) -> None:
        for session in self.sessions:
            session.executors.pop(lost.executor, None)
            slots = await self._slots(session.id, lost.executor)
            if slots:
                log.warning("executor lost", extra={"executor": lost.executor, "exit": lost.exit_status, "runs": len(slots)})
            for run_id, epoch, _ in slots:
                self.channel.later(self.engine.submit(attempts.lose, Lose(run_id=run_id, epoch=epoch)))

    async def _bye(self) -> None:
        for session in self.sessions:
            await self.engine.call(sessions.close_session, CloseSession(session=session.id))
            self.channel.remove(session)
        self.sessions.clear()

    async def _slots(self, session: str, executor: str) -> list[tuple[str, int, str]]:
        return await self.engine.read(lambda tx: lanes.slots_of_executor(tx, session, executor))

    # ---- executors

    async def _join(self, join: Join) -> None:
        if not hmac.compare_digest(join.token, self.channel.token(join.session)):
            return self.outbox.put(Rejected("unauthorized", "the executor's token is not of this session"))
        session = self.channel.session(join.session)
        if session is None:
            # its supervisor is not (back) at this server yet
            return self.outbox.put(SessionLost("the worker of this executor is not connected here"))
        executor = Executor(join.executor, session, self.outbox)
        slots = await self._slots(join.session, join.executor)
        held = {run.run_id: run.epoch for run in join.held}
        for run_id, epoch, route in slots:
            if held.get(run_id) == epoch:
                executor.held[run_id] = (epoch, kind_of(route))
            else:  # claimed for it, but the frame was lost: it never began
                self.channel.later(self.engine.submit(attempts.give_back, GiveBack(run_id=run_id, epoch=epoch, reason="not_started")))
        abandon = [run for run in join.held if run.run_id not in executor.held]
        session.executors[join.executor] = executor
        self.executor = executor
        return self.outbox.put(Joined(join.executor, abandon))

    def _credit(self, credit: Credit) -> None:
        if self.executor is not None:
            self.executor.capacity = {"async": credit.async_slots, "thread": credit.thread_slots}
            self.engine.wake()

    def _done(self, done: Done) -> None:
        executor = self.executor
        if executor is None:
            return self.outbox.put(Refused(done.n, "unauthorized", "join first", True))
        if isinstance(made := result_of(done), Refusal):
            return self.outbox.put(Refused(done.n, made.code, made.message, False))
        item = Complete(run_id=done.run_id, session=executor.session.id, result=made)
        future = self.engine.submit(attempts.complete, item)
        future.add_done_callback(partial(self._answer, executor, done.n, done.run_id, done.epoch))
        return None

    def _answer(self, executor: Executor, n: int, run_id: str, epoch: int, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        if isinstance(error := future.exception(), DatabaseError):
            return self.outbox.put(Refused(n, "unavailable", str(error), False))
        if error is not None:
            return self.outbox.put(Refused(n, "internal", "the server could not store this", False))
        answer = future.result()
        if isinstance(answer, Refusal):
            over = answer.code in OVER
            if over:
                self._forget(executor, run_id, epoch)
            return self.outbox.put(Refused(n, answer.code, answer.message, over))
        attempt = answer.attempt if isinstance(answer, Completed) else None
        if attempt is None:
            self._forget(executor, run_id, epoch)
        return self.outbox.put(Ok(n, attempt))

    def _forget(self, executor: Executor, run_id: str, epoch: int) -> None:
        held = executor.held.get(run_id)
        if held is not None and held[0] == epoch:
            was_full = len(executor.held) >= executor.capacity[held[1]]
            del executor.held[run_id]
            if was_full:  # with room left, the flush that ended the run has looked for another already
                self.engine.wake()

    def _release(self, release: Release) -> None:
        executor = self.executor
        if executor is None:
            return self.outbox.put(Refused(release.n, "unauthorized", "join first", True))
        item = GiveBack(run_id=release.run_id, epoch=release.epoch, reason=release.reason)
        future = self.engine.submit(attempts.give_back, item)
        return future.add_done_callback(partial(self._answer, executor, release.n, release.run_id, release.epoch))
