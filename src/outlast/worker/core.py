"""An executor's side of the channel: takes runs, runs their attempts, reports their ends. Knows no processes and no sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from outlast import current, faults
from outlast.config import Config
from outlast.model.failure import internal
from outlast.model.messages import (
    Abandon,
    Abandoned,
    Awake,
    Blocked,
    CancelPush,
    Cold,
    Completion,
    Credit,
    Done,
    DrainPush,
    HeldRun,
    Join,
    Joined,
    Ok,
    Recorded,
    Refused,
    Rejected,
    Release,
    Resume,
    RunPush,
    SessionLost,
    Side,
    ToWorker,
)
from outlast.tasks import registry
from outlast.worker import telemetry
from outlast.worker.attempt import AttemptRunner
from outlast.worker.connection import Connection, ConnectionClosed, Outbox, SessionEnded
from outlast.worker.ended import Ended
from outlast.worker.held import Held
from outlast.worker.journal import Journal
from outlast.worker.lines import LogBuffer
from outlast.worker.link import RunLink
from outlast.worker.parking import ENDLESS, WaitLimits
from outlast.worker.refusals import Refusals
from outlast.worker.scopes import install
from outlast.worker.setting import Setting
from outlast.worker.sides import Sides
from outlast.worker.stopping import Stopping
from outlast.worker.unanswered import Unanswered, Write
from outlast.worker.waits import Waits

log = logging.getLogger("outlast.worker")

MAX_THREADS = 2_000  # of `def` tasks, those that wait included


class ExecutorCore:
    """Runs live on over a lost connection: `serve` is called again with the next one, and tells what was held."""

    def __init__(
        self,
        name: str,
        *,
        config: Config,
        is_dev: bool,
        async_slots: int,
        thread_slots: int,
        spool: Path | None = None,
        replay_every_wait: bool = False,
        limits: WaitLimits = ENDLESS,
        first_number: int = 0,
        memory_bytes: int = 0,
        alone: bool = False,
    ) -> None:
        self.name = name
        self.async_slots = async_slots
        self.thread_slots = thread_slots
        self.replays_every_wait = replay_every_wait  # no coroutine is kept: what a crash would show, shown on the laptop
        self.outbox = Outbox()
        self.held: dict[str, Held] = {}
        self.idle = asyncio.Event()
        self.idle.set()
        self.draining = False
        self.schema: str | None = None
        self.paused = False
        self.has_joined = False  # on the connection of now, or of the last one
        self.on_exhausted: Callable[[], None] | None = None  # every thread is stuck: only a new process helps
        self.stuck: set[asyncio.Future[Any]] = set()  # threads whose runs were given up, and which still run
        self.tracing = telemetry.start(config.telemetry, config.project)
        # a thread that waits keeps no slot, so there may be many more of them than slots
        self._setting = Setting(config, is_dev, ThreadPoolExecutor(MAX_THREADS, "outlast-task"), memory_bytes, alone)
        self.waits = Waits(self, limits)
        self.stopping = Stopping(self)
        self.unanswered = Unanswered(spool)
        self._refusals = Refusals(self)
        self._n = first_number  # of its writes; in a process of one run they must differ from those of its neighbours
        self._loop = asyncio.get_running_loop()
        install(self._loop)
        self.lines = LogBuffer(self.outbox.put, is_connected=lambda: self.outbox.is_connected)

    def set_dev(self, is_dev: bool) -> None:
        self._setting.is_dev = is_dev

    async def answered(self) -> None:
        """Until every write has its answer, or the server stays away for five seconds."""
        for _ in range(100):
            if not self.unanswered:
                return
            await asyncio.sleep(0.05)

    # ---- the connection

    async def serve(self, connection: Connection, session: str, token: str) -> None:
        """Join a session and work for it until the connection ends.

        Raises:
            ConnectionClosed: it ended; runs go on, and their ends are kept.
            SessionEnded: the session is over: nothing held here counts any more.
        """
        writer = self._loop.create_task(self.outbox.run(connection))
        self.has_joined = False
        try:
            await connection.send([Join(session, self.name, token, self._holds())])
            while True:
                frame = await connection.receive()
                if faults.drops("executor.receive"):
                    raise ConnectionClosed("a frame was lost")
                for message in frame:
                    if isinstance(message, Joined):
                        # not earlier: a write of somebody who has not joined is refused, and would be lost
                        self.outbox.open(connection)
                    self._handle(message)
        finally:
            writer.cancel()
            self.outbox.stop(connection)
            await connection.close()

    def _holds(self) -> list[HeldRun]:
        """What executes here, and what ended here without an answer yet."""
        runs = {run_id: (h.push.epoch, h.push.attempt) for run_id, h in self.held.items() if not h.abandoned}
        for run_id, epoch, attempt in self.unanswered.runs():
            runs.setdefault(run_id, (epoch, attempt))
        return [HeldRun(run_id, epoch, attempt, self.name) for run_id, (epoch, attempt) in runs.items()]

    def _handle(self, message: ToWorker) -> None:
        match message:
            case RunPush():
                self._begin(message)
            case Ok():
                self.answer(message.n, message.attempt)
            case Recorded() | Completion() | Resume():
                self.waits.handle(message)
            case Refused():
                self._refusals.handle(message)
            case Joined():
                self._joined(message)
            case CancelPush():
                self.stopping.cancel(message.run_id, message.epoch, message.grace_ms)
            case Abandon():
                self.abandon(message.runs)
            case SessionLost():
                raise SessionEnded(message.reason)
            case Rejected():
                raise ConnectionClosed(message.message, final=True)
            case DrainPush():
                self.drain()
            case _:
                log.warning("unexpected message", extra={"kind": type(message).__name__})

    def _joined(self, joined: Joined) -> None:
        self.has_joined = True
        self.schema = joined.schema
        self.abandon(joined.abandon)
        # what had no answer goes again, in order, before anything new
        for message in self.unanswered:
            self.outbox.put(message)
        self._offer()
        self.lines.flush()

    def _offer(self) -> None:
        """Say how many runs of each kind may be here."""
        if self.draining or self.paused:
            self.outbox.put(Credit(0, 0))
        else:
            self.outbox.put(Credit(self.async_slots, max(0, self.thread_slots - len(self.stuck))))

    def drain(self) -> None:
        """Take nothing new."""
        self.draining = True
        self._offer()
        self.waits.park_all()

    def pause(self, on: bool) -> None:
        """Begin nothing while the lease is in doubt."""
        if self.paused != on:
            self.paused = on
            self._offer()

    # ---- runs

    def _begin(self, push: RunPush) -> None:
        known = self.held.get(push.run_id)
        if known is not None:
            if known.push.epoch >= push.epoch:
                return  # sent twice
            self.give_up(known)  # it was taken from us and came back: the older execution counts no more
        if self.paused or self.draining:  # the frame crossed ours
            return self.send(Release(self.next_number(), push.run_id, push.epoch, "not_started"))
        if push.task not in registry.tasks:
            return self.send(Release(self.next_number(), push.run_id, push.epoch, "missing_code"))
        held = Held(push)
        self.held[push.run_id] = held
        self.idle.clear()
        held.work = self._loop.create_task(self._work(held))
        if push.cancelled:
            self.stopping.replay(held)
        return None

    async def _work(self, held: Held) -> None:
        """Attempt after attempt while short retries stay here."""
        try:
            while not held.abandoned:
                ended = await self._attempt(held)
                if held.journal is not None and not held.abandoned and ended.outcome != "cancelled":
                    await held.journal.has_slot()
                if held.abandoned:
                    return
                self.lines.over(held.push.run_id, held.push.attempt)
                following = await self._report(held, ended)
                if following is None:
                    return
                held.again(following, ended)
                await asyncio.sleep(ended.retry_delay_ms / 1_000)
                if self.draining:  # a retry is not begun in an executor that is about to leave
                    self.send(Release(self.next_number(), held.push.run_id, held.push.epoch, "drain"))
                    return
        except asyncio.CancelledError:
            if not held.abandoned:
                raise
        finally:
            self.forget(held)
            held.clear()

    def forget(self, held: Held) -> None:
        self.waits.parking.remove(held)
        if self.held.get(held.push.run_id) is held:
            del self.held[held.push.run_id]
        if not self.held:
            self.idle.set()

    async def _attempt(self, held: Held) -> Ended:
        try:
            held.runner = self._runner(held)
            faults.point("run.before")
            ended = await (held.runner.run() if self.tracing is None else self.tracing.traced(held.push, held.runner.run()))
            faults.point("run.after")
            return ended
        except Exception as error:  # a defect of ours: the run must end all the same
            log.exception("an attempt could not be run", extra={"run_id": held.push.run_id, "task": held.push.task})
            return Ended("failed", error=internal("TASK_EXECUTION_FAILED", f"{type(error).__name__}: {error}"))
        finally:
            held.runner = None

    def _runner(self, held: Held) -> AttemptRunner:
        ctx, entries = held.begin()
        counts = [entry for entry in entries if entry.kind == "count"]  # not for the code: what it has written beside the journal
        entries = [entry for entry in entries if entry.kind != "count"] if counts else entries
        push = held.push
        held.journal = Journal(push.run_id, entries, RunLink(held, self), version=push.version, is_dev=self._setting.is_dev)
        held.sides = Sides(held, held.journal, self, counts)
        emit = partial(self.lines.say, push.run_id, push.attempt)
        attempt = current.Attempt(ctx=ctx, emit=emit, durable=held.journal, beside=held.sides)
        return AttemptRunner(push, registry.tasks[push.task], attempt, self._setting, partial(self.stopping.began, held))

    async def _report(self, held: Held, ended: Ended) -> int | None:
        """Send the end of an attempt; the number of the one that follows here, if any."""
        held.answered = self._loop.create_future()
        if held.sides is not None:
            held.sides.send()
        self.send(self.done(held.push, ended))
        following = await held.answered
        held.answered = None
        return None if held.abandoned else following

    def done(self, push: RunPush, ended: Ended) -> Done:
        return Done(
            self.next_number(), push.run_id, push.epoch, push.attempt, ended.outcome, ended.output, ended.output_type, ended.error,
            ended.retry_delay_ms, ended.usage_ms, ended.cpu_ms, ended.peak_memory,
        )  # fmt: skip

    # ---- giving up

    def abandon(self, runs: list[HeldRun]) -> None:
        """These are not ours any more: stop them, and say nothing of them."""
        for run in runs:
            self.unanswered.drop(run.run_id, run.epoch)
            held = self.held.get(run.run_id)
            if held is not None and held.push.epoch == run.epoch:
                self.give_up(held)

    def abandon_all(self) -> None:
        """The session is over: nothing that is here counts any more."""
        self.abandon([HeldRun(run_id, epoch, attempt, self.name) for run_id, epoch, attempt in self.unanswered.runs()])
        for held in list(self.held.values()):
            self.give_up(held)

    def give_back(self) -> None:
        """The time to drain is over: runs still executing go back to their queues, uncounted."""
        for held in list(self.held.values()):
            if held.answered is not None:
                continue  # its end is on its way
            self.give_up(held)
            self.send(Release(self.next_number(), held.push.run_id, held.push.epoch, "drain"))

    def give_up(self, held: Held) -> None:
        if held.can_park:  # it only waits, and goes on elsewhere: nothing is thrown into it
            return self.waits.parking.park(held)
        held.abandoned = True
        runner = held.runner
        if runner is not None:
            runner.give_up()
            if runner.thread is not None and not runner.thread.done():
                self._stuck(runner.thread)
        if held.work is not None:
            held.work.cancel()
        self.forget(held)  # here too: a task that never ran a step has no `finally`
        return None

    def _stuck(self, thread: asyncio.Future[Any]) -> None:
        """A thread cannot be ended. Its room is taken from what is offered; when none is left, the process is replaced."""
        self.stuck.add(thread)

        def ended(_: object) -> None:
            self.stuck.discard(thread)
            self._offer()

        thread.add_done_callback(ended)
        self._offer()
        log.warning("a thread goes on after its run was given up", extra={"executor": self.name, "stuck_threads": len(self.stuck)})
        if len(self.stuck) >= self.thread_slots and self.on_exhausted is not None:
            self.on_exhausted()

    # ---- writing

    def next_number(self) -> int:
        self._n += 1
        return self._n

    def send(self, message: Write) -> None:
        self.unanswered.add(message)
        self.outbox.put(message)

    def answer(self, n: int, following: int | None) -> None:
        """A write is settled; `following`: the attempt that goes on here."""
        message = self.unanswered.get(n)
        answered = self.unanswered.pop(n)
        if isinstance(message, Blocked):
            return self.waits.suspended(message)
        if isinstance(message, (Abandoned, Cold, Awake)):
            return
        if isinstance(message, Side):
            return self.waits.answered_beside(message)
        self._refusals.forget(n)
        if answered is None:
            return
        held = self.held.get(answered[0])
        if held is not None and held.push.epoch == answered[1] and held.answered is not None and not held.answered.done():
            held.answered.set_result(following)
