"""An event loop without a machine: time is a number that jumps to whatever is due, threads are calls, nodes can die or stand still."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from outlast.faults import FaultError

NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("simulated_node", default=None)
NOWHERE = contextvars.Context()  # what happens between the nodes
PRIME, SHUFFLES = 2_147_483_647, 1_103_515_245  # which of two timers of one moment is first shall not be who came first


class Died(BaseException):
    """Ends the call in which a node dies; nothing of the node runs any more, so nobody catches it to go on."""


class Stuck(Exception):
    """Nothing is due, and something is awaited."""


class Node:
    """A process: whatever is scheduled in its context. It dies with all its memory, or stands still for a time."""

    def __init__(self, name: str, loop: VirtualLoop, parent: Node | None = None) -> None:
        self.name = name
        self.loop = loop
        self.parent = parent
        self.alive = True
        self.frozen = False
        self.was_frozen = False  # it may be a zombie from now on
        self.died: asyncio.Future[None] = loop.create_future()
        self._children: list[Node] = []
        self._kept: deque[asyncio.Handle] = deque()
        loop.nodes.append(self)
        self.on_death: list[Callable[[], None]] = []
        if parent is not None:
            parent._children.append(self)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        context = contextvars.Context()
        context.run(NODE.set, self)
        return self.loop.create_task(work, context=context)

    def crash(self) -> None:
        """kill -9: it and all its children."""
        if not self.alive:
            return
        self.alive = False
        self.loop.dropped.extend(self._kept)
        self._kept.clear()
        for child in self._children:
            child.crash()
        for tell in self.on_death:
            tell()
        if not self.died.done():
            self.died.set_result(None)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = self.was_frozen = True
        for child in self._children:
            child.freeze()

    def thaw(self) -> None:
        """SIGCONT: what became due meanwhile happens now, in its order."""
        self.frozen = False
        self.loop.take(self._kept)
        self._kept = deque()
        for child in self._children:
            child.thaw()

    def keep(self, handle: asyncio.Handle) -> None:
        self._kept.append(handle)


class VirtualLoop(asyncio.BaseEventLoop):
    """Order of execution is a function of what is called, so a seed repeats it."""

    _ready: deque[asyncio.Handle]  # as in BaseEventLoop
    _scheduled: list[tuple[float, int, asyncio.TimerHandle]]  # by time; of one moment in any order

    def __init__(self, latency: Callable[[], float]) -> None:
        super().__init__()
        self._now = 0.0
        self._timers = 0
        self._latency = latency  # of a thread that reads
        self.failures: list[str] = []
        self.steps = 0
        self.is_over = False
        self.nodes: list[Node] = []
        self.dropped: list[asyncio.Handle] = []  # of the dead; they run at the burial, since a task ends only in its own step
        self.tasks: set[asyncio.Task[Any]] = set()  # a dead node's tasks are kept: closing them would run their `finally`
        self.set_task_factory(self._make)
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        return self._now

    def _make(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard, context=NOWHERE)
        return task

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not self.is_over and not isinstance(error, (Died, FaultError)):
            self.failures.append(f"{context.get('message')}: {error!r} of {context.get('task') or context.get('future')}"[:1_000])

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """The call happens now, its result is here a little later."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            outcome, error = func(*args), None
        except Exception as raised:
            outcome, error = None, raised
        self.call_later(self._latency(), _settle, future, outcome, error)
        return future

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers += 1
        heapq.heappush(self._scheduled, (when, self._timers * SHUFFLES % PRIME, timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        return  # it is passed over when its time comes

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        return self.call_soon(callback, *args, context=context)

    def take(self, handles: deque[asyncio.Handle]) -> None:
        self._ready.extend(handles)

    def bury(self) -> None:
        """Cancel whatever still waits, of the dead too, and let it end; what it says is heard by nobody."""
        self.is_over = True
        self.run_until_complete(self._bury())
        self._ready.clear()
        self._scheduled.clear()

    async def _bury(self) -> None:
        mine = asyncio.current_task()
        self._ready.extend(self.dropped)
        for _ in range(50):
            left = [task for task in self.tasks if not task.done() and task is not mine]
            if not left:
                return
            for task in left:
                task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)

    def _process_events(self, event_list: object) -> None:
        return

    def _write_to_self(self) -> None:
        return

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0][2]._cancelled:  # pyright: ignore[reportAttributeAccessIssue]
            heapq.heappop(scheduled)
        if not ready:
            if not scheduled:
                raise Stuck("nothing is scheduled any more")
            self._now = max(self._now, scheduled[0][0])
        while scheduled and scheduled[0][0] <= self._now:
            ready.append(heapq.heappop(scheduled)[2])
        for _ in range(len(ready)):
            self._run(ready.popleft())

    def _run(self, handle: Any) -> None:
        if handle._cancelled:
            return
        node: Node | None = handle._context.get(NODE)
        if node is not None and not self.is_over:
            if not node.alive:
                self.dropped.append(handle)
                return
            if node.frozen:
                return node.keep(handle)
        self.steps += 1
        handle._run()
        return None


def _settle(future: asyncio.Future[Any], outcome: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome)
