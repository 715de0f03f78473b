"""An executor's side of the channel: takes runs, runs their attempts, reports their ends. Knows no processes and no sockets."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from msgspec.structs import replace

from outlast import current
from outlast.config import Config
from outlast.context import build_context
from outlast.model.failure import cut
from outlast.model.limits import MAX_LOG_CHARS
from outlast.model.messages import (
    Abandon,
    CancelPush,
    Credit,
    Done,
    DrainPush,
    HeldRun,
    Join,
    Joined,
    Log,
    LogLine,
    Ok,
    Refused,
    Rejected,
    Release,
    RunPush,
    SessionLost,
    ToWorker,
)
from outlast.tasks import registry
from outlast.worker.attempt import AttemptRunner, Ended, Setting
from outlast.worker.connection import Connection, ConnectionClosed, Outbox

log = logging.getLogger("outlast.worker")

LOG_FLUSH_SECONDS = 0.05
MAX_LOG_LINES = 20_000  # a second of a run that prints without end; then lines are dropped and counted
FRAME_LINES = 500


@dataclass(slots=True)
class Held:
    """A run that this executor holds."""

    push: RunPush
    work: asyncio.Task[None] | None = None
    runner: AttemptRunner | None = None
    abandoned: bool = False
    answered: asyncio.Future[int | None] | None = None  # the next attempt, if the run is tried again here


class ExecutorCore:
    """Runs live on over a lost connection: `serve` is called again with the next one, and tells what was held."""

    def __init__(self, name: str, *, config: Config, is_dev: bool, async_slots: int, thread_slots: int) -> None:
        self.name = name
        self.async_slots = async_slots
        self.thread_slots = thread_slots
        self.outbox = Outbox()
        self.held: dict[str, Held] = {}
        self.idle = asyncio.Event()
        self.idle.set()
        self.draining = False
        self._setting = Setting(config, is_dev, ThreadPoolExecutor(max(1, thread_slots), "outlast-task"))
        self._unanswered: dict[int, Done | Release] = {}
        self._n = 0
        self._lines: list[LogLine] = []
        self._dropped = 0
        self._flusher: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def set_dev(self, is_dev: bool) -> None:
        self._setting.is_dev = is_dev

    async def answered(self) -> None:
        """Until every write has its answer, or the server stays away for five seconds."""
        for _ in range(100):
            if not self._unanswered:
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
        held = [HeldRun(run_id, h.push.epoch, h.push.attempt, self.name) for run_id, h in self.held.items()]
        try:
            await connection.send([Join(session, self.name, token, held)])
            while True:
                for message in await connection.receive():
                    self._handle(message)
        finally:
            writer.cancel()
            self.outbox.stop(connection)
            await connection.close()

    def _handle(self, message: ToWorker) -> None:
        match message:
            case RunPush():
                self._begin(message)
            case Ok():
                self._answer(message.n, message.attempt)
            case Refused():
                self._refused(message)
            case Joined():
                self._joined(message)
            case CancelPush():
                self.cancel(message.run_id, message.epoch, message.grace_ms)
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
        self.abandon(joined.abandon)
        # what had no answer goes again, in order, before anything new
        for message in self._unanswered.values():
            self.outbox.put(message)
        if not self.draining:
            self.outbox.put(Credit(self.async_slots, self.thread_slots))
        self._flush_logs()

    def drain(self) -> None:
        """Take nothing new."""
        self.draining = True
        self.outbox.put(Credit(0, 0))

    # ---- runs

    def _begin(self, push: RunPush) -> None:
        known = self.held.get(push.run_id)
        if known is not None and known.push.epoch >= push.epoch:
            return  # sent twice
        if push.task not in registry.tasks:
            self._send(Release(self._next(), push.run_id, push.epoch, "missing_code"))
            return
        held = Held(push)
        self.held[push.run_id] = held
        self.idle.clear()
        held.work = self._loop.create_task(self._work(held))

    async def _work(self, held: Held) -> None:
        """Attempt after attempt while short retries stay here."""
        try:
            while True:
                ended = await self._attempt(held)
                if held.abandoned:
                    return
                self._flush_logs()
                following = await self._report(held, ended)
                if following is None:
                    return
                await asyncio.sleep(ended.retry_delay_ms / 1_000)
                held.push = replace(held.push, attempt=following)
        except asyncio.CancelledError:
            if not held.abandoned:
                raise
        finally:
            if self.held.get(held.push.run_id) is held:
                del self.held[held.push.run_id]
            if not self.held:
                self.idle.set()

    async def _attempt(self, held: Held) -> Ended:
        push = held.push
        task = registry.tasks[push.task]

        def emit(level: str, source: str, message: str, data: dict[str, object] | None) -> None:
            self._say(push.run_id, push.attempt, level, source, message, data)

        runner = AttemptRunner(push, task, current.Attempt(ctx=build_context(push), emit=emit), self._setting)
        held.runner = runner
        try:
            return await runner.run()
        finally:
            held.runner = None

    async def _report(self, held: Held, ended: Ended) -> int | None:
        """Send the end of an attempt; the number of the one that follows here, if any."""
        push, n = held.push, self._next()
        done = Done(
            n=n,
            run_id=push.run_id,
            epoch=push.epoch,
            attempt=push.attempt,
            outcome=ended.outcome,
            output=ended.output,
            output_type=ended.output_type,
            error=ended.error,
            retry_delay_ms=ended.retry_delay_ms,
            usage_ms=ended.usage_ms,
        )
        held.answered = self._loop.create_future()
        self._send(done)
        following = await held.answered
        held.answered = None
        if following is None or held.abandoned:
            return None
        if self.draining:  # a retry is not begun in an executor that is about to leave
            self._send(Release(self._next(), push.run_id, push.epoch, "drain"))
            return None
        return following

    def cancel(self, run_id: str, epoch: int, grace_ms: int) -> None:
        held = self.held.get(run_id)
        if held is None or held.push.epoch != epoch:
            return
        if held.runner is not None:
            held.runner.cancel()
            self._loop.call_later(grace_ms / 1_000, self._overdue, held)
        elif held.work is not None and held.answered is None:
            held.work.cancel()  # between attempts

    def _overdue(self, held: Held) -> None:
        """The grace is over and the code did not stop: the run is given up here, its end is reported."""
        if self.held.get(held.push.run_id) is not held or held.abandoned:
            return
        log.warning("cancelled run did not stop in time", extra={"run_id": held.push.run_id, "task": held.push.task})
        held.abandoned = True
        self._send(Done(self._next(), held.push.run_id, held.push.epoch, held.push.attempt, "cancelled"))
        if held.work is not None:
            held.work.cancel()

    def abandon(self, runs: list[HeldRun]) -> None:
        """These are not ours any more: stop them, and say nothing of them."""
        for run in runs:
            held = self.held.get(run.run_id)
            if held is None or held.push.epoch != run.epoch:
                continue
            held.abandoned = True
            for n in [n for n, m in self._unanswered.items() if m.run_id == run.run_id and m.epoch == run.epoch]:
                del self._unanswered[n]
            if held.work is not None:
                held.work.cancel()

    def give_back(self) -> None:
        """The time to drain is over: runs still executing go back to their queues, uncounted."""
        for held in list(self.held.values()):
            held.abandoned = True
            self._send(Release(self._next(), held.push.run_id, held.push.epoch, "drain"))
            if held.work is not None:
                held.work.cancel()

    # ---- writing

    def _next(self) -> int:
        self._n += 1
        return self._n

    def _send(self, message: Done | Release) -> None:
        self._unanswered[message.n] = message
        self.outbox.put(message)

    def _answer(self, n: int, following: int | None) -> None:
        message = self._unanswered.pop(n, None)
        if message is None:
            return
        held = self.held.get(message.run_id)
        if held is not None and held.push.epoch == message.epoch and held.answered is not None and not held.answered.done():
            held.answered.set_result(following)

    def _refused(self, refused: Refused) -> None:
        message = self._unanswered.get(refused.n)
        if message is None:
            return
        if not refused.over and refused.code == "unavailable":
            # the database is away: the same write again, a little later
            self._loop.call_later(0.5, self.outbox.put, message)
            return
        log.warning("a write was refused", extra={"run_id": message.run_id, "code": refused.code, "reason": refused.message})
        self._answer(refused.n, None)

    # ---- logs

    def _say(self, run_id: str, attempt: int, level: str, source: str, message: str, data: dict[str, object] | None) -> None:
        """From any thread of the user's code."""
        if len(self._lines) >= MAX_LOG_LINES:
            self._dropped += 1
            return
        text = cut(message, MAX_LOG_CHARS).replace("\x00", "\\u0000").encode("utf-8", "replace").decode()
        at = time.time_ns() // 1_000_000
        self._lines.append(LogLine(run_id, attempt, at, level, source, text, _plain(data)))  # type: ignore[arg-type]
        if self._flusher is None:
            self._loop.call_soon_threadsafe(self._later)

    def _later(self) -> None:
        if self._flusher is None:
            self._flusher = self._loop.call_later(LOG_FLUSH_SECONDS, self._flush_logs)

    def _flush_logs(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        if not self._lines or not self.outbox.is_connected:
            return
        lines, self._lines = self._lines, []
        for start in range(0, len(lines), FRAME_LINES):
            self.outbox.put(Log(lines[start : start + FRAME_LINES], self._dropped if start == 0 else 0))
        self._dropped = 0


class SessionEnded(Exception):
    """The worker's session is over; everything held under it belongs to others."""


def _plain(data: dict[str, object] | None) -> dict[str, object] | None:
    """Structured data of a log line, as far as it can travel."""
    if data is None:
        return None
    return {str(k): v if isinstance(v, (str, int, float, bool, type(None))) else repr(v)[:1_000] for k, v in data.items()}
