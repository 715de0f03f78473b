"""The executors of a worker: started by the kinds of tasks there are, seen when they die, replaced, retired at a reload."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.model.manifest import Kind, Manifest
from outlast.worker.background import Background
from outlast.worker.control import Assign, Ready
from outlast.worker.discover import ImportFailure
from outlast.worker.isolated import IsolatedExecutor
from outlast.worker.options import WorkerOptions
from outlast.worker.process import ExecutorProcess

log = logging.getLogger("outlast.worker")

RESTART_SECONDS = 0.2  # before an executor that died is started again; doubled while it keeps dying at start
MAX_RESTART_SECONDS = 10.0
SLOW_IMPORT_SECONDS = 15.0
MAX_AWAY_SECONDS = 15.0  # then the worker looks for another server, as its executors have done all the while
ROTATION_SECONDS = 86_400.0  # nothing is wrong with what executes there: it may end in its own time


KINDS: tuple[Kind, ...] = ("async", "thread", "process")
Executor = ExecutorProcess | IsolatedExecutor


class WorkerRefused(Exception):
    """This worker cannot work: the server does not take it, or its code cannot be loaded; the message says why."""


@dataclass(slots=True)
class Loaded:
    """New executors with the code loaded, and what is in it."""

    manifest: Manifest
    failures: list[ImportFailure]
    executors: list[Executor]


class Crew:
    def __init__(
        self,
        options: WorkerOptions,
        *,
        on_lost: Callable[[Executor, int | None], None],
        on_refused: Callable[[Executor, str], None],
        make: Callable[..., ExecutorProcess] = ExecutorProcess,
        isolated: Callable[..., IsolatedExecutor] = IsolatedExecutor,
    ) -> None:
        self.assignment: Assign | None = None  # the session that new executors join
        self.env_vars: dict[str, str] = {}
        self.is_stopping = False
        self._options = options
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._make = make
        self._make_isolated = isolated
        self._current: list[Executor] = []
        self._old: set[Executor] = set()
        self._starting: set[Executor] = set()
        self._none_starts = asyncio.Event()
        self._none_starts.set()
        self._numbers = 0
        self._expects = False
        self._background = Background("an executor could not be looked after")

    def all(self) -> list[Executor]:
        return [*self._current, *self._old]

    def is_astray(self, *, since: float) -> bool:
        """Whether an executor finds everywhere that this worker is not there, but it has been connected since then.

        Its server takes no new connections any more, or a balancer has stopped to lead to it.
        """
        away = [x.away_since for x in self.all() if x.away_since is not None]
        return bool(away) and asyncio.get_running_loop().time() - max(since, min(away)) > MAX_AWAY_SECONDS

    def sessions_of_old(self) -> set[str]:
        """Sessions that executors of earlier code still work for."""
        return {x.session for x in self._old if x.session is not None}

    # ---- starting

    async def load(self) -> Loaded:
        """Start executors with today's code; the first tells what it holds, so that only the kinds it needs are started.

        Raises:
            WorkerRefused: the first one ended while it loaded the code.
        """
        first = self._new(async_slots=self._options.async_slots, thread_slots=self._options.thread_slots)
        ready = await self._start(first)
        if ready is None:
            raise WorkerRefused("the executor ended while it loaded the code: its own output says why")
        kinds: set[Kind] = {task.kind for task in ready.manifest.tasks} or {"async"}
        executors: list[Executor] = []
        if len(kinds) == 1 and "process" not in kinds:
            executors = [first]
            more = self._of_kind(next(iter(kinds)), there=1)
        else:
            # a thread that computes without releasing the interpreter would hold up every coroutine beside it
            await first.end()
            more = [made for kind in KINDS if kind in kinds for made in self._of_kind(kind)]
        for executor, started in zip(more, await asyncio.gather(*map(self._start, more)), strict=True):
            if started is not None:
                executors.append(executor)
            else:
                self._background.spawn(self._replace(executor, RESTART_SECONDS))
        return Loaded(ready.manifest, ready.failures, executors)

    def adopt(self, executors: Iterable[Executor]) -> None:
        """Use them: from now on their death is seen and made good."""
        for executor in executors:
            self._current.append(executor)
            executor.on_refused = lambda reason, executor=executor: self._on_refused(executor, reason)
            if isinstance(executor, ExecutorProcess):
                executor.on_exhausted = lambda executor=executor: self._later(self._renew(executor))
                executor.on_full = lambda executor=executor: self._later(self._rotate(executor))
            self._background.spawn(self._watch(executor))
            if self.assignment is not None:
                executor.assign(self.assignment)

    def assign(self, assignment: Assign) -> None:
        """The session that the executors of today's code work for, those to come included."""
        self.assignment = assignment
        for executor in self._current:
            executor.assign(assignment)

    def _of_kind(self, kind: Kind, *, there: int = 0) -> list[Executor]:
        """As many as there are to be, without those that are there."""
        o = self._options
        if kind == "process":
            return [self._isolated()]
        slots = (o.async_slots, 0) if kind == "async" else (0, o.thread_slots)
        return [self._new(async_slots=slots[0], thread_slots=slots[1]) for _ in range(o.executors - there)]

    def _isolated(self) -> IsolatedExecutor:
        o, name = self._options, self._name()
        return self._make_isolated(
            name,
            o.project,
            slots=o.process_slots,
            modules=o.modules,
            limits=o.wait_limits,
            replay_every_wait=o.replay_every_wait,
            log_format=o.log_format,
            spool=self._spool(name),
            env=self.env_vars,
        )

    def _like(self, executor: Executor) -> Executor:
        if isinstance(executor, IsolatedExecutor):
            return self._isolated()
        return self._new(async_slots=executor.async_slots, thread_slots=executor.thread_slots)

    def _name(self) -> str:
        self._numbers += 1
        return f"x{self._numbers}"

    def _spool(self, name: str) -> Path | None:
        data = self._options.data
        return data.resolve() / "spool" / f"{os.getpid()}-{name}" if data is not None else None

    def _new(self, *, async_slots: int, thread_slots: int) -> ExecutorProcess:
        o, name = self._options, self._name()
        return self._make(
            name,
            o.project,
            modules=o.modules,
            async_slots=async_slots,
            thread_slots=thread_slots,
            log_format=o.log_format,
            spool=self._spool(name),
            env=self.env_vars,
            waiting=o.waiting(),
        )

    async def _start(self, executor: Executor) -> Ready | None:
        if self.is_stopping:
            return None

        def tell() -> None:
            log.warning("the code takes long to import", extra={"executor": executor.name, "seconds": SLOW_IMPORT_SECONDS})

        timer = asyncio.get_running_loop().call_later(SLOW_IMPORT_SECONDS, tell)
        self._starting.add(executor)
        self._none_starts.clear()
        try:
            ready = await executor.start()
            if not self.is_stopping:
                return ready
            await executor.end()
            return None
        finally:
            timer.cancel()
            self._starting.discard(executor)
            if not self._starting:
                self._none_starts.set()

    # ---- dying

    async def _watch(self, executor: Executor) -> None:
        """See it die, say so at once, and start another."""
        status = await executor.ended()
        self._on_lost(executor, status)
        self._old.discard(executor)
        if executor not in self._current:
            return
        self._current.remove(executor)
        if self.is_stopping or executor.drained:
            return
        log.warning("executor died", extra={"executor": executor.name, "exit": status, "running": executor.running})
        self.expect_suspects()
        await self._replace(executor, RESTART_SECONDS)

    def expect_suspects(self) -> None:
        """A run that loses two workers is tried again in a process of its own: have an executor of such processes, if there is none."""
        if not self.is_stopping and not self._expects and not any(isinstance(x, IsolatedExecutor) for x in self._current):
            self._expects = True
            self._later(self._start_isolated())

    async def _start_isolated(self) -> None:
        made = self._isolated()
        try:
            ready = await self._start(made)
        finally:
            self._expects = False
        if ready is None:
            return  # its own output says why; as long as it is needed the server asks again
        self.adopt([made])

    async def _replace(self, executor: Executor, delay: float) -> None:
        while not self.is_stopping:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            following = self._like(executor)
            if await self._start(following) is not None:
                return self.adopt([following])
            delay = min(max(RESTART_SECONDS, delay * 2), MAX_RESTART_SECONDS)
        return None

    async def _renew(self, executor: Executor) -> None:
        """All its threads are stuck in runs that were given up: another one takes its place."""
        if executor not in self._current or self.is_stopping:
            return
        log.warning("every thread is stuck: replacing the executor", extra={"executor": executor.name})
        self._current.remove(executor)
        self._old.add(executor)
        self._background.spawn(executor.drain(self._options.drain_seconds))
        await self._replace(executor, 0.0)

    async def _rotate(self, executor: Executor) -> None:
        """It keeps many coroutines only because closing them would run their `finally`: another takes new runs, then it leaves."""
        log.info("many runs went cold: replacing the executor", extra={"executor": executor.name})
        await self._replace(executor, 0.0)
        if executor in self._current and not self.is_stopping:
            self._current.remove(executor)
            self._old.add(executor)
            self._background.spawn(executor.drain(ROTATION_SECONDS))

    # ---- leaving

    def retire(self) -> None:
        """Those of now finish what they have, for as long as the drain time."""
        for executor in self._current:
            self._background.spawn(executor.drain(self._options.drain_seconds))
        self._old.update(self._current)
        self._current.clear()

    def dismiss(self) -> None:
        """End those of now, which have nothing."""
        leaving, self._current = self._current, []
        self.kill(leaving)

    def kill(self, executors: Iterable[Executor] | None = None) -> None:
        for executor in self.all() if executors is None else executors:
            executor.kill()

    def kill_session(self, session: str) -> None:
        self.kill([x for x in self._old if x.session == session])

    async def stop(self, seconds: float) -> None:
        self.is_stopping = True
        self.kill(self._starting)
        # one whose process does not exist yet cannot be killed: it ends when it has started
        await asyncio.gather(self._none_starts.wait(), *[executor.drain(seconds) for executor in self.all()])

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.spawn(work)
