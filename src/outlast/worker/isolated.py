"""The executor of tasks with `isolation="process"`: to the server one executor, here a process for each run, forked by a zygote.

It lives in the supervisor, which runs no user code: it relays what the processes say, and ends those that do not end themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from outlast.model.messages import (
    Blocked,
    CancelPush,
    Cold,
    Done,
    HeldRun,
    Joined,
    Refused,
    Release,
    Resume,
    RunPush,
    decode_from_worker,
    encode_frame,
)
from outlast.worker.attempt import STOP_SECONDS
from outlast.worker.background import Background
from outlast.worker.changed import Changed
from outlast.worker.child import OOM_KILLED, Child, oom_kills
from outlast.worker.connection import WebSocketConnection
from outlast.worker.control import Assign, CancelRun, Ended, Line, Pause, Ready
from outlast.worker.ended import Why
from outlast.worker.hot import HOT_PROCESSES, HotProcesses
from outlast.worker.joining import Connect, stay_joined
from outlast.worker.nursery import Nursery
from outlast.worker.parking import WaitLimits
from outlast.worker.relay import Relay
from outlast.worker.single import Birth
from outlast.worker.stopping import CLEAN_UP_SECONDS, REPLAY_SECONDS
from outlast.worker.unanswered import Write
from outlast.worker.verdict import pause_ms

log = logging.getLogger("outlast.worker")

PATIENCE_SECONDS = 2.0  # beyond what a process was given to stop by itself, and for its last words to be read
ANSWER_SECONDS = 5.0


class IsolatedExecutor:
    """Like an `ExecutorProcess` to who starts and ends executors."""

    def __init__(
        self,
        name: str,
        project: Path,
        *,
        slots: int,
        modules: list[str] | None,
        limits: WaitLimits,
        replay_every_wait: bool = False,
        log_format: str | None = None,
        spool: Path | None = None,
        env: Mapping[str, str] | None = None,
        nursery: Callable[..., Nursery] = Nursery,
        connect: Connect = WebSocketConnection.open,
    ) -> None:
        self.name = name
        self.lag_ms = 0.0
        self.silent_seconds = 0.0  # no user code can hold it up
        self.drained = False
        self.session: str | None = None
        self.on_refused: Callable[[str], None] | None = None
        self._room = slots
        self._cold_after = limits.cold_after
        self._spool = spool
        self._connect = connect
        self._nursery = nursery(project, modules=modules, log_format=log_format, env=env or {}, on_ended=self._child_ended)
        self._relay = Relay(self, spool)
        self._is_dev = False
        self._paused = False
        self._numbers = 0
        self._children: dict[int, Child] = {}  # processes, by number
        self._runs: dict[str, Child] = {}  # runs that are here
        self._hot = HotProcesses(self._cool, most=0 if replay_every_wait else limits.hot_waits or HOT_PROCESSES)
        self._changed = Changed()
        self._serving: asyncio.Task[None] | None = None
        self._background = Background("runs in processes of their own could not be looked after")
        self._loop = asyncio.get_running_loop()

    # ---- what the crew asks

    @property
    def pid(self) -> int | None:  # of the zygote: its end is the end of all
        return self._nursery.pid

    @property
    def running(self) -> list[str]:
        return [f"{child.push.task} ({run_id})" for run_id, child in self._runs.items() if child not in self._hot][:5]

    @property
    def away_since(self) -> float | None:
        return self._relay.away_since

    async def start(self) -> Ready | None:
        ready = await self._nursery.start()
        if reason := self._nursery.terms.cannot_fork:
            log.warning("processes of runs cannot be forked, and start slowly", extra={"executor": self.name, "reason": reason})
        return ready

    def assign(self, assign: Assign) -> None:
        self.session = assign.session
        self._is_dev = assign.is_dev
        if self._serving is not None:
            self._serving.cancel()
        else:
            cold_after = self._nursery.terms.cold_after if self._cold_after is None else self._cold_after
            self._background.spawn(self._hot.look(cold_after or None))
        self._serving = self._background.spawn(stay_joined(self._relay, assign, self._sent_away, connect=self._connect))

    def send(self, line: Line) -> None:
        match line:
            case Pause():
                self._paused = line.on
                self._relay.offer()
            case CancelRun():
                self.cancel(line.run_id, line.epoch, line.grace_ms)
            case _:
                pass

    async def ended(self) -> int | None:
        status = await self._nursery.ended()
        await self._changed.until(lambda: not self._relay.unanswered, ANSWER_SECONDS)  # what is told of them next is that they are lost
        self._background.cancel()
        for child in self._children.values():
            child.set_timer(None)
        if self._spool is not None:
            shutil.rmtree(self._spool, ignore_errors=True)
        return status

    async def drain(self, seconds: float) -> None:
        """Let runs end, give back the rest after `seconds`, then end everything."""
        self.drain_soon()
        await self._changed.until(lambda: not self._runs, seconds)
        for child in list(self._runs.values()):
            if not child.said_done:
                self._give_back(child, "drain")
        await self._changed.until(lambda: not self._relay.unanswered, ANSWER_SECONDS)
        await self._changed.until(lambda: not self._children, PATIENCE_SECONDS)  # the zygote ends what they have started, too
        await self.end()

    async def end(self) -> None:
        self.kill()
        await self._nursery.ended()

    def kill(self) -> None:
        self._nursery.kill()

    def _sent_away(self, reason: str, final: bool) -> None:
        level = logging.WARNING if final else logging.DEBUG
        log.log(level, "executor was sent away", extra={"executor": self.name, "reason": reason})
        if final and self.on_refused is not None:
            self.on_refused(reason)

    # ---- what the relay asks

    @property
    def slots(self) -> int:
        return 0 if self.drained or self._paused else self._room

    def held(self) -> list[HeldRun]:
        return [HeldRun(run_id, child.push.epoch, child.push.attempt, self.name) for run_id, child in self._runs.items()]

    def child(self, number: int) -> Child | None:
        return self._children.get(number)

    def child_of(self, run_id: str) -> Child | None:
        return self._runs.get(run_id)

    def begin(self, push: RunPush) -> None:
        known = self._runs.get(push.run_id)
        if known is not None:
            if known.push.epoch >= push.epoch:
                return  # sent twice
            self._drop(known)
        terms = self._nursery.terms.tasks.get(push.task)
        if terms is None or self.slots == 0:
            reason = "missing_code" if terms is None else "not_started"
            return self._relay.write(Release(self._relay.next_number(), push.run_id, push.epoch, reason))
        self._numbers += 1
        child = Child(self._numbers, replace(push, payload=None, metadata=None, entries=[]), terms, oom_kills())
        self._children[child.number] = self._runs[push.run_id] = child
        child.read = self._background.spawn(self._live(child, push))
        if push.cancelled:
            seconds = REPLAY_SECONDS + CLEAN_UP_SECONDS + PATIENCE_SECONDS
            return child.set_timer(self._loop.call_later(seconds, self._overdue, child, "cancelled"))
        # a replay has the whole of max_duration for itself
        return self._allow(child, replay=bool(push.entries))

    def resume(self, resume: Resume) -> None:
        child = self._runs.get(resume.run_id)
        if child is not None and child.number not in self._children:
            self._forget(child)
            child = None
        if child is None:  # its process is not here any more: it is replayed somewhere
            return self._relay.write(Release(self._relay.next_number(), resume.run_id, resume.epoch, "not_held"))
        if resume.epoch > child.push.epoch:
            self._hot.remove(child)
            child.at(epoch=resume.epoch)
            child.cooling = False  # what was asked is refused now
            child.active.go_on()
            self._allow(child)
            child.tell(resume)
        return None

    def cancel(self, run_id: str, epoch: int, grace_ms: int) -> None:
        child = self._runs.get(run_id)
        if child is None or child.push.epoch != epoch or child.stopping == "cancelled" or child.push.cancelled:
            return
        child.stopping = "cancelled"
        child.tell(CancelPush(run_id, epoch, grace_ms))
        child.set_timer(self._loop.call_later(grace_ms / 1_000 + PATIENCE_SECONDS, self._overdue, child, "cancelled"))

    def abandon(self, runs: list[HeldRun]) -> None:
        for run in runs:
            self._relay.unanswered.drop(run.run_id, run.epoch)
            child = self._runs.get(run.run_id)
            if child is not None and child.push.epoch == run.epoch:
                self._drop(child)

    def said(self, child: Child, message: Write) -> None:
        if isinstance(message, Done):
            child.said_done = True
            child.retry_delay = message.retry_delay_ms / 1_000

    def answered(self, message: Write, attempt: int | None) -> None:
        self._changed.tell()
        child = self._runs.get(message.run_id)
        if child is None or child.push.epoch != message.epoch:
            return
        match message:
            case Blocked():
                self._suspended(child)
            case Cold():
                self._drop(child)
            case Done() if attempt is not None:
                self._goes_on(child, attempt)
            case Done() | Release():
                self._let_go(child)
            case _:
                pass

    def refused(self, message: Write, refused: Refused) -> None:
        self._changed.tell()
        child = self._runs.get(message.run_id)
        if child is None or child.push.epoch != message.epoch:
            return
        if isinstance(message, Cold):
            child.cooling = False
        elif isinstance(message, (Done, Release)) or (refused.over and refused.code != "run_cancelled"):
            self._let_go(child)

    def drain_soon(self) -> None:
        """Take nothing new. What waits goes on elsewhere, by its journal."""
        self.drained = True
        self._relay.offer()
        for child in self._hot.all():
            self._drop(child)

    # ---- one process

    async def _live(self, child: Child, push: RunPush) -> None:
        memory_bytes = 0 if self._is_dev else child.memory_bytes
        with contextlib.suppress(OSError):  # the zygote is gone: then all are lost
            line = await self._nursery.make(child.number)
            line.put(msgspec.msgpack.encode(Birth(self.name, child.number, self._is_dev, memory_bytes)))
            line.put(encode_frame([Joined(self.name, []), push, *child.unsent]))
            child.line, child.unsent = line, []
            try:
                while (body := await line.get()) is not None:
                    self._relay.hear(child, decode_from_worker(body))
            except msgspec.DecodeError:
                log.error("a run's process said what is no frame: ending it", extra={"run_id": push.run_id})
                self._nursery.end_one(child.number)
            finally:
                line.close()

    def _allow(self, child: Child, *, replay: bool = False, delay: float = 0.0) -> None:
        """Its code stops itself after max_duration, unless it holds up its own loop: then its process is ended from here."""
        left = child.time_left(replay=replay)
        if left is None:
            return child.set_timer(None)
        seconds = left + delay + STOP_SECONDS + PATIENCE_SECONDS
        return child.set_timer(self._loop.call_later(seconds, self._overdue, child, "timed_out"))

    def _overdue(self, child: Child, why: Why) -> None:
        if child.over or self._runs.get(child.push.run_id) is not child:
            return
        log.warning("the code of a run did not stop in time: ending its process", extra={"run_id": child.push.run_id, "why": why})
        child.sentence = why  # carried out when it has ended: then it is known what it has used
        self._end(child)

    def _suspended(self, child: Child) -> None:
        child.active.pause()
        child.set_timer(None)
        if self.drained:
            return self._drop(child)
        self._hot.add(child)
        return None

    def _cool(self, child: Child) -> None:
        """Its row is all that is needed: once the server knows that nobody has it, the process is ended."""
        if not child.cooling:
            child.cooling = True
            self._relay.write(Cold(self._relay.next_number(), child.push.run_id, child.push.epoch))

    def _goes_on(self, child: Child, attempt: int) -> None:
        """The next attempt begins in the same process, if that still lives."""
        child.at(attempt=attempt)
        child.said_done = False
        child.active = type(child.active)()
        if child.number in self._children:
            self._allow(child, delay=child.retry_delay)
        else:
            self._died(child)

    def _let_go(self, child: Child) -> None:
        """The run is over here. The process ends by itself, or is ended."""
        self._forget(child)
        child.set_timer(self._loop.call_later(PATIENCE_SECONDS, self._nursery.end_one, child.number))

    def _drop(self, child: Child) -> None:
        """Nothing more is said of the run."""
        self._forget(child)
        self._end(child)

    def _give_back(self, child: Child, reason: Any) -> None:
        self._relay.write(Release(self._relay.next_number(), child.push.run_id, child.push.epoch, reason))
        self._end(child)

    def _end(self, child: Child) -> None:
        child.over = True
        child.set_timer(None)
        self._nursery.end_one(child.number)

    def _forget(self, child: Child) -> None:
        if self._runs.get(child.push.run_id) is child:
            del self._runs[child.push.run_id]
            self._hot.remove(child)
        self._changed.tell()

    # ---- its death

    def _child_ended(self, ended: Ended) -> None:
        child = self._children.get(ended.number)
        if child is not None:
            self._background.spawn(self._bury(child, ended))

    async def _bury(self, child: Child, ended: Ended) -> None:
        if child.read is not None:  # what it has said first
            await asyncio.wait([child.read], timeout=PATIENCE_SECONDS)
        child.set_timer(None)
        child.status, child.cpu_ms, child.peak_memory = ended.status, ended.cpu_ms, ended.peak_memory
        self._children.pop(child.number, None)
        self._changed.tell()
        if child.said_done or self._runs.get(child.push.run_id) is not child:
            return
        if child.sentence is not None:
            self._done(child, child.sentence, child.reason)
        elif child.over:
            return
        elif ended.status is None:
            self._give_back(child, "not_started")
        elif child in self._hot:
            self._cool(child)
        else:
            self._died(child)

    def _died(self, child: Child) -> None:
        """In the middle of its run: the attempt is over, and counts."""
        error = child.cause_of_death(has_limits=not self._is_dev)
        policy = None if self._is_dev and not self._nursery.terms.retries_in_dev else child.terms.retry
        pause = None if error.code == OOM_KILLED else pause_ms(child.push, policy)
        log.warning("a run's process died", extra={"run_id": child.push.run_id, "task": child.push.task, "exit": child.status})
        self._relay.lines.say(child.push.run_id, child.push.attempt, "error", "system", error.message, None)
        self._done(child, "crashed" if pause is None else "lost", error, pause or 0)

    def _done(self, child: Child, outcome: Any, error: Any = None, pause: int = 0) -> None:
        self._relay.write(child.done(self._relay.next_number(), outcome, error, pause))
