"""One connection of a worker: what a supervisor or an executor says, and the answers."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from outlast.engine import attempts, durable, sessions, sides
from outlast.engine.operation import Operation
from outlast.model.journal import Entry
from outlast.model.lane import alone_route, kind_of, route
from outlast.model.limits import CANCEL_GRACE_MS, LEASE_MS
from outlast.model.manifest import PROTOCOL
from outlast.model.messages import (
    Abandoned,
    Attach,
    Attached,
    Awake,
    Beat,
    BeatOk,
    Blocked,
    Bye,
    CancelPush,
    Cold,
    Completion,
    Credit,
    Done,
    Drain,
    DrainPush,
    FromWorker,
    HeldRun,
    Hello,
    Join,
    Joined,
    Log,
    Lost,
    Ok,
    Op,
    Recorded,
    Refused,
    Rejected,
    Release,
    RunWrite,
    SessionLost,
    Side,
    Welcome,
)
from outlast.model.refusal import Refusal
from outlast.model.requests import (
    AppendLogs,
    Beats,
    CloseSession,
    Complete,
    Completed,
    Forsake,
    GiveBack,
    GoCold,
    Lose,
    OpenSession,
    Suspend,
    TakeSession,
    Wake,
)
from outlast.server import manifests
from outlast.server.connected import Executor, Outbox, WorkerSession
from outlast.server.owned import foreign
from outlast.server.reconcile import reconcile
from outlast.server.recorded import record_of
from outlast.server.results import result_of
from outlast.server.sides import write_of
from outlast.store import catalog, journal, lanes, runs
from outlast.store import sessions as sessions_store
from outlast.store.database import DatabaseError

if TYPE_CHECKING:
    from outlast.server.channel import Channel

log = logging.getLogger("outlast.channel")

OVER = frozenset({"stale_epoch", "run_final", "run_cancelled", "not_found", "result_conflict"})


class Peer:
    """One connection: a supervisor after `hello` or `attach`, an executor after `join`."""

    def __init__(self, channel: Channel, outbox: Outbox, env_id: int | None) -> None:
        self.channel = channel
        self.engine = channel.engine
        self.outbox = outbox
        self.env_id = env_id
        self.sessions: list[WorkerSession] = []  # the newest last; older ones drain
        self.executor: Executor | None = None

    async def handle(self, message: FromWorker) -> None:
        executor = self.executor
        if executor is not None and isinstance(message, RunWrite) and message.run_id not in executor.known:
            others = await foreign(self.engine, executor, (message.run_id,))
            if others:
                return self.outbox.put(Refused(message.n, "forbidden", f"run {message.run_id[:64]} is another environment's", True))
        match message:
            case Done():
                self._done(message)
            case Log():
                await self._log(message)
            case Op():
                self._op(message)
            case Blocked():
                self._blocked(message)
            case Side():
                self._side(message)
            case Cold():
                self._submit(durable.go_cold, GoCold(run_id=message.run_id, epoch=message.epoch), message.n, message.run_id, message.epoch)
            case Awake():
                self._submit(durable.wake, Wake(run_id=message.run_id, epoch=message.epoch), message.n, message.run_id, message.epoch)
            case Abandoned():
                m = message
                item = Forsake(run_id=m.run_id, epoch=m.epoch, journal=m.journal, key=m.key, cancel=m.cancel, again=m.again)
                self._submit(durable.forsake, item, message.n, message.run_id, message.epoch)
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
            for executor in session.executors.values():  # their supervisor may attach at another server: they have to follow it
                executor.outbox.put(SessionLost("the worker of this executor is not connected here any more"))
            session.executors.clear()
        if self.executor is not None and self.executor.session.executors.get(self.executor.name) is self.executor:
            del self.executor.session.executors[self.executor.name]

    # ---- supervisors

    async def _log(self, message: Log) -> None:
        """Off the critical path: nobody waits for it."""
        if self.executor is None:
            return
        lines = message.lines
        if others := await foreign(self.engine, self.executor, {line.run_id for line in lines}):
            log.warning(
                "log lines of runs of another environment were dropped", extra={"executor": self.executor.name, "runs": len(others)}
            )
            lines = [line for line in lines if line.run_id not in others]
        self.channel.later(self.engine.submit(attempts.append_logs, AppendLogs(lines=lines), bulk=True))

    async def _hello(self, hello: Hello) -> None:
        if self.env_id is None:
            return self.outbox.put(Rejected("unauthorized", "this connection has no API key"))
        if hello.protocol != PROTOCOL:
            text = f"the worker speaks protocol {hello.protocol}, this server {PROTOCOL}: install the same version of outlast on both"
            return self.outbox.put(Rejected("protocol", text))
        if (wrong := manifests.fault(hello.manifest, self.engine.clock.now())) is not None:
            return self.outbox.put(Rejected("invalid", wrong))
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
        session.variables = await self.channel.variables(env_id)
        token = self.channel.token(session.id)
        self._tell(self.env_id)
        log.info("worker connected", extra={"worker": hello.worker, "version": opened.version, "session": session.id})
        return self.outbox.put(
            Welcome(session.id, opened.version, LEASE_MS, token, env.slug, self.engine.clock.now(), session.variables),
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
        self._tell(self.env_id)
        log.info("worker is back", extra={"session": session.id})
        self.outbox.put(Attached(LEASE_MS))
        await self.channel.tell_variables(session)

    async def _beat(self, beat: Beat) -> None:
        cancel: list[HeldRun] = []
        suspects = False
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
            with contextlib.suppress(DatabaseError):  # the next beat looks again
                await reconcile(self.channel, session, beat.loop_lag_ms)
                suspects = suspects or await self._lacks_processes(session)
                await self.channel.tell_variables(session)
        await self._drain_asked()
        self.outbox.put(BeatOk(beat.n, LEASE_MS, cancel, suspects))

    async def _lacks_processes(self, session: WorkerSession) -> bool:
        """Whether runs that may be poison wait for a process of their own, and this worker makes none."""
        if any(executor.capacity["process"] for executor in session.executors.values()):
            return False
        routes = [alone_route(route(version, "async")) for version in (session.version, None)]
        return await self.engine.read(lambda tx: lanes.is_anything_open(tx, session.env_id, routes))

    async def _drain_asked(self) -> None:
        """Somebody may have asked the newest session to leave; the worker itself ends the older ones."""
        with contextlib.suppress(DatabaseError):
            newest = self.sessions[-1:]
            asked = await self.engine.read(lambda tx: sessions_store.draining(tx, [s.id for s in newest])) if newest else set[str]()
            for session in newest:
                if session.id in asked and not session.draining:
                    session.draining = True
                    self.outbox.put(DrainPush())

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
            self._tell(session.env_id)
        self.sessions.clear()

    def _tell(self, env_id: int) -> None:
        """Open pages show who is connected, and with which version."""
        for topic in ("workers", "deployments", "home"):
            self.engine.publish(env_id, topic)

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
        # what is claimed for it from here on until it has joined is given back: frames to its old connection reach nobody
        session.executors.pop(join.executor, None)
        executor = Executor(join.executor, session, self.outbox)
        slots = await self._slots(join.session, join.executor)
        held = {run.run_id: run.epoch for run in join.held}
        for run_id, epoch, name in slots:
            if held.get(run_id) == epoch:
                executor.hold(run_id, epoch, kind_of(name))
            else:  # claimed for it, but the frame was lost: it never began
                self.channel.later(self.engine.submit(attempts.give_back, GiveBack(run_id=run_id, epoch=epoch, reason="not_started")))
        waiting = await self.engine.read(lambda tx: runs.read(tx, set(held) - set(executor.held)))
        # hot: its coroutine waits there, or was claimed for it a moment ago
        hot = {
            run.id
            for run in waiting
            if run.held_by == join.session and run.executor == join.executor and run.epoch == held[run.id] and not run.is_final
        }
        abandon = [run for run in join.held if run.run_id not in executor.held and run.run_id not in hot]
        session.executors[join.executor] = executor
        self.executor = executor
        return self.outbox.put(Joined(join.executor, abandon, getattr(self.engine.database, "schema", None)))

    def _credit(self, credit: Credit) -> None:
        if self.executor is not None:
            self.executor.capacity = {"async": credit.async_slots, "thread": credit.thread_slots, "process": credit.process_slots}
            self.engine.wake()

    def _done(self, done: Done) -> None:
        if isinstance(made := result_of(done), Refusal):
            return self.outbox.put(Refused(done.n, made.code, made.message, False))
        session = self.executor.session.id if self.executor is not None else ""
        item = Complete(run_id=done.run_id, session=session, result=made)
        return self._submit(attempts.complete, item, done.n, done.run_id, done.epoch, ends=True)

    def _submit(self, operation: Operation[Any, Any], item: Any, n: int, run_id: str, epoch: int, *, ends: bool = False) -> None:
        """A write of an executor; its answer goes back when it is durable."""
        if self.executor is None:
            return self.outbox.put(Refused(n, "unauthorized", "join first", True))
        future = self.engine.submit(operation, item)
        return future.add_done_callback(partial(self._answer, self.executor, n, run_id, epoch, ends))

    def _op(self, op: Op) -> None:
        made = record_of(op, self.executor.session.env_id, self.engine.clock.now()) if self.executor is not None else None
        return self._submit(durable.record, made, op.n, op.run_id, op.epoch)

    def _side(self, side: Side) -> None:
        made = write_of(side)
        if isinstance(made, Refusal):
            return self.outbox.put(Refused(side.n, made.code, made.message, False))
        return self._submit(sides.write_beside, made, side.n, side.run_id, side.epoch)

    def _blocked(self, blocked: Blocked) -> None:
        name = self.executor.name if self.executor is not None else ""
        item = Suspend(
            run_id=blocked.run_id, epoch=blocked.epoch, journal=blocked.journal, seen=blocked.seen, executor=name,
            unanswered=blocked.unanswered, active_ms=max(0, blocked.active_ms), cpu_ms=max(0, blocked.cpu_ms),
        )  # fmt: skip
        return self._submit(durable.suspend, item, blocked.n, blocked.run_id, blocked.epoch)

    def _answer(self, executor: Executor, n: int, run_id: str, epoch: int, ends: bool, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        if isinstance(error := future.exception(), DatabaseError):
            return self.outbox.put(Refused(n, "unavailable", str(error), False))
        if error is not None:
            return self.outbox.put(Refused(n, "internal", "the server could not store this", False))
        answer = future.result()
        if isinstance(answer, Refusal):
            over = answer.code in OVER
            if answer.code == "stale_epoch":
                log.info("a stale write was refused", extra={"run_id": run_id, "epoch": epoch, "executor": executor.name})
            if answer.code == "run_cancelled" and not ends:  # the word of it may have been lost, or be on its way from another server
                executor.outbox.put(CancelPush(run_id, epoch, CANCEL_GRACE_MS))
            elif over:
                self._forget(executor, run_id, epoch)
            if answer.code == "newer" and answer.data:
                # a completion pushed by another server may have been lost: send again what is recorded
                self.channel.later(asyncio.ensure_future(self._catch_up(executor, run_id, epoch, int(answer.data["journal"]))))
            return self.outbox.put(Refused(n, answer.code, answer.message, over))
        if answer is None:  # nothing of the run has changed that this executor must know
            return self.outbox.put(Ok(n))
        if isinstance(answer, Entry):
            return self.outbox.put(Recorded(n, run_id, epoch, answer))
        attempt = answer.attempt if isinstance(answer, Completed) else None
        if attempt is None:
            self._forget(executor, run_id, epoch)
        return self.outbox.put(Ok(n, attempt))

    async def _catch_up(self, executor: Executor, run_id: str, epoch: int, number: int) -> None:
        for entry in await self.engine.read(lambda tx: journal.since(tx, run_id, number, 0)):
            executor.outbox.put(Completion(run_id, epoch, entry))

    def _forget(self, executor: Executor, run_id: str, epoch: int) -> None:
        held = executor.held.get(run_id)
        if held is not None and held[0] == epoch:
            was_full = len(executor.held) >= executor.capacity[held[1]]
            del executor.held[run_id]
            if was_full:  # with room left, the flush that ended the run has looked for another already
                self.engine.wake()

    def _release(self, release: Release) -> None:
        item = GiveBack(run_id=release.run_id, epoch=release.epoch, reason=release.reason)
        return self._submit(attempts.give_back, item, release.n, release.run_id, release.epoch, ends=True)
