"""Between the server and processes of one run each: one connection for all of them, which keeps what has no answer yet.

Each process numbers its writes from its own number on, so an answer finds its way by number, and everything else by run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from outlast.model.messages import (
    Abandon,
    CancelPush,
    Completion,
    Credit,
    Done,
    DrainPush,
    FromWorker,
    HeldRun,
    Join,
    Joined,
    Log,
    Ok,
    Recorded,
    Refused,
    Rejected,
    Resume,
    RunPush,
    SessionLost,
    ToWorker,
)
from outlast.worker.child import Child
from outlast.worker.connection import Connection, ConnectionClosed, Outbox, SessionEnded
from outlast.worker.lines import LogBuffer
from outlast.worker.refusals import MAX_RESENDS, RESEND_SECONDS
from outlast.worker.single import NUMBERS
from outlast.worker.unanswered import Unanswered, Write

log = logging.getLogger("outlast.worker")


class Runs(Protocol):
    """Who has the processes."""

    name: str

    @property
    def slots(self) -> int: ...  # runs that may execute here now
    def held(self) -> list[HeldRun]: ...
    def child(self, number: int) -> Child | None: ...
    def child_of(self, run_id: str) -> Child | None: ...
    def begin(self, push: RunPush) -> None: ...
    def resume(self, resume: Resume) -> None: ...
    def cancel(self, run_id: str, epoch: int, grace_ms: int) -> None: ...
    def abandon(self, runs: list[HeldRun]) -> None: ...
    def said(self, child: Child, message: Write) -> None: ...
    def answered(self, message: Write, attempt: int | None) -> None: ...
    def refused(self, message: Write, refused: Refused) -> None: ...
    def drain_soon(self) -> None: ...


class Relay:
    def __init__(self, runs: Runs, spool: Path | None) -> None:
        self.has_joined = False
        self.away_since: float | None = None  # when servers began to send it away
        self.outbox = Outbox()
        self.unanswered = Unanswered(spool)
        self._runs = runs
        self.lines = LogBuffer(self.outbox.put, is_connected=lambda: self.outbox.is_connected)
        self._resends: dict[int, int] = {}
        self._n = 0

    # ---- to the server

    def next_number(self) -> int:
        """For a write of our own."""
        self._n += 1
        return self._n

    def write(self, message: Write) -> None:
        if isinstance(message, Done):
            self.lines.flush()  # what it said comes before its end
        if message.n not in self.unanswered:  # a process sends again what the server could not take
            self.unanswered.add(message)
        self.outbox.put(message)

    def hear(self, child: Child, messages: Sequence[FromWorker]) -> None:
        """What a process says."""
        for message in messages:
            if isinstance(message, Log):
                self.lines.take(message)
            elif isinstance(message, Write) and _is_of(message, child) and not child.over:
                self.write(message)
                self._runs.said(child, message)
            # its join and credit are not passed on: who may have runs is decided here

    def offer(self) -> None:
        """Say how many runs may be here."""
        self.outbox.put(Credit(0, 0, self._runs.slots))

    # ---- from the server

    async def serve(self, connection: Connection, session: str, token: str) -> None:
        """As `ExecutorCore.serve`."""
        writer = asyncio.get_running_loop().create_task(self.outbox.run(connection))
        self.has_joined = False
        try:
            await connection.send([Join(session, self._runs.name, token, self._holds())])
            while True:
                for message in await connection.receive():
                    if isinstance(message, Joined):
                        self.outbox.open(connection)
                    self._handle(message)
        finally:
            writer.cancel()
            self.outbox.stop(connection)
            await connection.close()

    def _holds(self) -> list[HeldRun]:
        held = {run.run_id: run for run in self._runs.held()}
        for run_id, epoch, attempt in self.unanswered.runs():
            held.setdefault(run_id, HeldRun(run_id, epoch, attempt, self._runs.name))
        return list(held.values())

    def _handle(self, message: ToWorker) -> None:
        match message:
            case RunPush():
                self._runs.begin(message)
            case Ok():
                self._answered(message)
            case Refused():
                self._refused(message)
            case Recorded():
                self.unanswered.pop(message.n)
                self._tell(message.run_id, message)
            case Completion():
                self._tell(message.run_id, message)
            case Resume():
                self._runs.resume(message)
            case Joined():
                self._joined(message)
            case CancelPush():
                self._runs.cancel(message.run_id, message.epoch, message.grace_ms)
            case Abandon():
                self._runs.abandon(message.runs)
            case SessionLost():
                self.away_since = self.away_since or asyncio.get_running_loop().time()
                raise SessionEnded(message.reason)
            case Rejected():
                raise ConnectionClosed(message.message, final=True)
            case DrainPush():
                self._runs.drain_soon()
            case _:
                log.warning("unexpected message", extra={"kind": type(message).__name__})

    def _joined(self, joined: Joined) -> None:
        self.has_joined = True
        self.away_since = None
        self._runs.abandon(joined.abandon)
        for message in self.unanswered:  # in order, before anything new
            self.outbox.put(message)
        self.offer()
        self.lines.flush()

    def _tell(self, run_id: str, message: ToWorker) -> None:
        child = self._runs.child_of(run_id)
        if child is not None:
            child.tell(message)

    def _answered(self, answer: Ok) -> None:
        message = self.unanswered.get(answer.n)
        self.unanswered.pop(answer.n)
        self._resends.pop(answer.n, None)
        child = self._runs.child(answer.n >> NUMBERS)
        if child is not None:
            child.tell(answer)
        if message is not None:
            self._runs.answered(message, answer.attempt)

    def _refused(self, refused: Refused) -> None:
        message = self.unanswered.get(refused.n)
        if message is None:
            return
        child = self._runs.child(refused.n >> NUMBERS)
        comes_again = not refused.over and refused.code in ("unavailable", "internal")
        if child is not None and not child.over:
            child.tell(refused)  # and sends again what may come again
            if comes_again:
                return
        elif comes_again:
            tries = self._resends[refused.n] = self._resends.get(refused.n, 0) + (refused.code == "internal")
            if tries < MAX_RESENDS:
                asyncio.get_running_loop().call_later(RESEND_SECONDS, self._resend, refused.n)
                return
        self.unanswered.pop(refused.n)
        self._resends.pop(refused.n, None)
        self._runs.refused(message, refused)

    def _resend(self, n: int) -> None:
        message = self.unanswered.get(n)
        if message is not None:
            self.outbox.put(message)


def _is_of(message: Write, child: Child) -> bool:
    """User code runs where it comes from: it may speak for its own run only."""
    return message.n >> NUMBERS == child.number and message.run_id == child.push.run_id
