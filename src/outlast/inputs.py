"""Input streams: values sent to a run, which waits for them with or without its slot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from outlast import current, durable
from outlast.client import requests
from outlast.client.calls import Flow, bound, call, run_sync
from outlast.client.calls import run as run_async
from outlast.model import payload as packets
from outlast.pending import Pending, PendingResult
from outlast.piping import WAIT_SECONDS, reading, text_of
from outlast.results import Result, RunError
from outlast.schema import Schema
from outlast.wait import TimedOut

if TYPE_CHECKING:
    import asyncio

    from outlast.client.answers import RunHandle

T = TypeVar("T")
INPUT = "$trigger.input:"  # what the keys of their records begin with


class Input(Generic[T]):
    """Values sent to a run, in order. One that nobody waits for is kept for whoever asks next.

    Example:
        >>> approvals = input("approval", type=bool)
        >>> result = await approvals.wait(timeout="1h")  # doctest: +SKIP
    """

    def __init__(self, key: str, type: Any = None) -> None:
        self.key = key
        self._schema = Schema(_nothing, type)

    def wait(self, *, timeout: str | float | None = None, key: str | None = None) -> PendingResult[T]:
        """Wait for the next value without a slot; durable, as `wait.for_token`. Each value is given to one wait.

        Raises:
            OutsideRunError: outside of a task.
        """
        name = f"streams.input({self.key!r}).wait(…)"
        here = durable.required(name)
        slot = here.slot("token", f"input {self.key}", key, "", name)
        args = {"input": self.key, "timeout_ms": durable.timeout_ms(timeout, name)}

        async def go() -> Result[T]:
            entry = await here.perform(slot, args)
            if entry.status == "ok":
                return Result(True, self.key, "input", self._schema.read(entry.value, entry.value_type or packets.JSON))
            failure = durable.failure(entry)
            return TimedOut(False, self.key, "input", RunError(failure.name, failure.message))

        return PendingResult(name, go, lambda: here.block(go))

    def once(self, *, timeout: float | None = None) -> PendingResult[T]:
        """The next value, while the code stays where it is (and keeps its slot). `timeout`: seconds.

        Raises:
            OutsideRunError: outside of a task.
        """
        name = f"streams.input({self.key!r}).once()"
        heard = self._heard(name)
        target = bound.get()

        def ask() -> Flow[Result[T]]:
            left = timeout
            while not heard.waiting:
                wait = WAIT_SECONDS if left is None else min(WAIT_SECONDS, left)
                answer = yield requests.poll_stream(heard.run_id, INPUT + self.key, heard.next, max(0, round(wait)))
                heard.take(answer)
                if left is not None and not heard.waiting:
                    left -= wait
                    if left <= 0:
                        return TimedOut(False, self.key, "input", RunError("WaitTimedOut", f"nothing was sent within {timeout} seconds"))
            return Result(True, self.key, "input", self._schema.read(heard.waiting.pop(0), packets.JSON))

        return PendingResult(name, lambda: run_async(ask(), target), lambda: run_sync(ask(), target))

    def on(self, handler: Callable[[T], Awaitable[None] | None]) -> Listener:
        """Call the handler with every value from the first on, until `off()` or the end of the attempt. For `async def` tasks."""
        import asyncio

        name = f"streams.input({self.key!r}).on(…)"
        run_id = current.required(name).ctx.run.id
        last = self._heard(name)

        async def listen() -> None:
            async for text in reading(run_id, INPUT + self.key, None, 0, None):
                last.last = text
                made = handler(self._schema.read(text, packets.JSON))
                if made is not None:
                    await made

        return Listener(asyncio.get_running_loop().create_task(listen()))

    def peek(self) -> T | None:
        """The last value that `once` or `on` has seen, or None."""
        last = self._heard(f"streams.input({self.key!r}).peek()").last
        return None if last is None else self._schema.read(last, packets.JSON)

    def send(self, run: str | RunHandle[Any], value: T) -> Pending[None]:
        """Send a value to a run.

        Raises:
            BadRequest: the run is over.
            NotFound: there is no such run in this environment.
            InvalidValue: the value cannot travel.
        """
        run_id = run if isinstance(run, str) else run.id
        return call(f"streams.input({self.key!r}).send(…)", requests.send_input(run_id, self.key, text_of(value)))

    def _heard(self, name: str) -> _Heard:
        attempt = current.required(name)
        return attempt.locals.setdefault(f"outlast input {self.key}", _Heard(attempt.ctx.run.id))


class _Heard:
    """What `once` has read of an input stream in this attempt."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.next = 0
        self.waiting: list[str] = []
        self.last: str | None = None

    def take(self, answer: requests.StreamPart) -> None:
        self.waiting += [bytes(record.data).decode() for record in answer.records]
        self.next = answer.next
        if self.waiting:
            self.last = self.waiting[-1]


class Listener:
    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def off(self) -> None:
        """Listen no more."""
        self._task.cancel()


def _nothing() -> None: ...
