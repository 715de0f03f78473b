"""`streams`: what a run makes while it makes it, followed from anywhere; and values sent to a run that waits for them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from outlast import current, durable, values
from outlast.client import requests
from outlast.client.calls import Flow, blocking, bound, call, flow
from outlast.client.live import Asking, Live, blocking_live
from outlast.errors import ApiError, InvalidValue
from outlast.model import payload as packets
from outlast.model.limits import MAX_CHUNK_BYTES
from outlast.pending import Pending, PendingResult
from outlast.results import Result, RunError
from outlast.schema import Schema
from outlast.wait import TimedOut

if TYPE_CHECKING:
    import asyncio

    from outlast.beside import Beside
    from outlast.client.answers import RunHandle

T = TypeVar("T")
Chunks = Iterable[T] | AsyncIterable[T]
DEFAULT = "default"
WAIT_SECONDS = 30  # of one long poll
SENT_TOGETHER = 100  # chunks


class Stream(Generic[T]):
    """A stream by its name; every run has one of its own. `target` is self, parent, root, or a run's id, which works anywhere.

    Example:
        >>> ai = define("ai", type=str)
        >>> await ai.pipe(openai_chunks())  # doctest: +SKIP
    """

    def __init__(self, key: str, type: Any = None) -> None:
        self.key = key
        self._schema = Schema(_nothing, type)

    def append(self, value: T, *, target: str = "self") -> Pending[None]:
        """One chunk more.

        Raises:
            OutsideRunError: outside of a task, unless `target` is a run's id.
            InvalidValue: the value cannot travel, or is larger than 1 MB.
        """
        return _writing(f"streams.append({self.key!r}, …)", self.key, [value], target)

    def pipe(self, chunks: Chunks[T], *, target: str = "self") -> Pending[None]:
        """All chunks, each as it comes; done when the last is durable.

        In a replay the chunks that were written before are passed over, but made again: what makes them belongs into a step.

        Raises:
            OutsideRunError, InvalidValue: as `append`.
        """
        return _writing(f"streams.pipe({self.key!r}, …)", self.key, chunks, target)

    def writer(self, execute: Callable[[Writer[T]], Awaitable[None]], *, target: str = "self") -> Pending[None]:
        """Call `execute` with a writer: `await to.write(chunk)`, `await to.merge(chunks)`; done when it returns and all is durable."""

        async def go() -> None:
            await execute(Writer(self, target))
            if (beside := _beside()) is not None:
                await beside.flushed()

        return Pending(f"streams.writer({self.key!r}, …)", go)

    def read(self, run: str | RunHandle[Any], *, start_index: int = 0, timeout_in_seconds: float = 60) -> Live[T]:
        """The chunks of a run's stream from `start_index` on, live; ends with the run, or when nothing comes for so long."""
        return _reading(run if isinstance(run, str) else run.id, self.key, self._schema, start_index, timeout_in_seconds)


class Writer(Generic[T]):
    def __init__(self, stream: Stream[T], target: str) -> None:
        self._stream = stream
        self._target = target

    async def write(self, value: T) -> None:
        await self._stream.append(value, target=self._target)

    async def merge(self, chunks: Chunks[T]) -> None:
        await self._stream.pipe(chunks, target=self._target)


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

        from outlast.client import calls

        return PendingResult(name, lambda: calls.run(ask(), target), lambda: calls.run_sync(ask(), target))

    def on(self, handler: Callable[[T], Awaitable[None] | None]) -> Listener:
        """Call the handler with every value from the first on, until `off()` or the end of the attempt. For `async def` tasks."""
        import asyncio

        name = f"streams.input({self.key!r}).on(…)"
        run_id = current.required(name).ctx.run.id
        last = self._heard(name)

        async def listen() -> None:
            async for text in _reading(run_id, INPUT + self.key, None, 0, None):
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
        return call(f"streams.input({self.key!r}).send(…)", requests.send_input(run_id, self.key, _text(value)))

    def _heard(self, name: str) -> _Heard:
        attempt = current.required(name)
        return attempt.locals.setdefault(f"outlast input {self.key}", _Heard(attempt.ctx.run.id))


class BlockingStream(Generic[T]):
    """A stream for `def` tasks and scripts."""

    def __init__(self, stream: Stream[T]) -> None:
        self.key = stream.key
        self.append = blocking(stream.append)
        self.pipe = blocking(stream.pipe)
        self.read = blocking_live(stream.read)


class BlockingInput(Generic[T]):
    """An input stream for `def` tasks and scripts."""

    def __init__(self, input: Input[T]) -> None:
        self.key = input.key
        self.wait = blocking(input.wait)
        self.once = blocking(input.once)
        self.peek = input.peek
        self.send = blocking(input.send)


def define_blocking(key: str, *, type: Any = None) -> BlockingStream[Any]:
    return BlockingStream(define(key, type=type))


def input_blocking(key: str, *, type: Any = None) -> BlockingInput[Any]:
    return BlockingInput(input(key, type=type))


INPUT = "$trigger.input:"


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


@overload
def define(key: str, *, type: type[T]) -> Stream[T]: ...
@overload
def define(key: str, *, type: Any = None) -> Stream[Any]: ...
def define(key: str, *, type: Any = None) -> Stream[Any]:
    """A stream with a name, and the type of its chunks."""
    return Stream(_key(key), type)


@overload
def input(key: str, *, type: type[T]) -> Input[T]: ...
@overload
def input(key: str, *, type: Any = None) -> Input[Any]: ...
def input(key: str, *, type: Any = None) -> Input[Any]:
    """Values of this type that are sent to runs under this name."""
    return Input(_key(key), type)


def append(value: Any, key: str = DEFAULT, *, target: str = "self") -> Pending[None]:
    """One chunk more, to a stream without a type."""
    return define(key).append(value, target=target)


def pipe(chunks: Chunks[Any], key: str = DEFAULT, *, target: str = "self") -> Pending[None]:
    """All chunks, each as it comes, to a stream without a type."""
    return define(key).pipe(chunks, target=target)


def read(run: str | RunHandle[Any], key: str = DEFAULT, *, start_index: int = 0, timeout_in_seconds: float = 60) -> Live[Any]:
    """The chunks of a run's stream, live."""
    return define(key).read(run, start_index=start_index, timeout_in_seconds=timeout_in_seconds)


def _key(key: str) -> str:
    if not key or len(key) > 200 or not key.isprintable() or "/" in key:
        raise InvalidValue(f"the name of a stream has 1 to 200 printable characters and no /, and this is {key[:100]!r}")
    return key


def _nothing() -> None: ...


def _text(value: Any) -> str:
    """A chunk as JSON."""
    data, data_type = values.encode(value)
    if data_type != packets.JSON:
        data = values.encode(packets.to_json(data, data_type))[0]
    if data is not None and len(data) > MAX_CHUNK_BYTES:
        raise InvalidValue(
            f"a chunk has at most {MAX_CHUNK_BYTES} bytes, and this one {len(data)}: store it elsewhere and send its address"
        )
    return "null" if data is None else data


# ---- writing


def _beside() -> Beside | None:
    attempt = current.attempt.get()
    return attempt.beside if attempt is not None else None


def _writing(name: str, key: str, chunks: Chunks[Any], target: str) -> Pending[None]:
    beside = _beside()
    if beside is None and target in ("self", "parent", "root"):
        current.required(name)
    if beside is not None:
        return Pending(name, lambda: _inside(beside, key, chunks, target), lambda: _inside_blocking(beside, key, chunks, target))
    return (
        flow(name, lambda: _outside(key, chunks, target)) if not hasattr(chunks, "__aiter__") else _outside_async(name, key, chunks, target)
    )


async def _inside(beside: Beside, key: str, chunks: Chunks[Any], target: str) -> None:
    async for chunk in _each(chunks):
        beside.stream(target, key, _text(chunk))
        await beside.room()
    await beside.flushed()


def _inside_blocking(beside: Beside, key: str, chunks: Chunks[Any], target: str) -> None:
    if hasattr(chunks, "__aiter__"):
        raise TypeError("a `def` task pipes what `for` goes through: `async for` needs an `async def` task")
    for n, chunk in enumerate(cast("Iterable[Any]", chunks)):
        beside.stream(target, key, _text(chunk))
        if n % SENT_TOGETHER == SENT_TOGETHER - 1:
            beside.block(beside.room())
    beside.block(beside.flushed())


async def _each(chunks: Chunks[Any]) -> AsyncIterator[Any]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


def _outside(key: str, chunks: Chunks[Any], run_id: str) -> Flow[None]:
    writer, index, lines = uuid.uuid4().hex, 0, list[str]()
    for chunk in cast("Iterable[Any]", chunks):
        lines.append(_text(chunk))
        if len(lines) == SENT_TOGETHER:
            yield requests.write_stream(run_id, key, lines, writer, index)
            index, lines = index + len(lines), []
    if lines:
        yield requests.write_stream(run_id, key, lines, writer, index)


def _outside_async(name: str, key: str, chunks: Chunks[Any], run_id: str) -> Pending[None]:
    """Chunks that come slowly leave one by one; those that come while a request is under way leave together."""
    from outlast.client import calls

    target = bound.get()

    async def go() -> None:
        import asyncio

        arrived: asyncio.Queue[str | None] = asyncio.Queue(SENT_TOGETHER)

        async def gather() -> None:
            async for chunk in _each(chunks):
                await arrived.put(_text(chunk))
            await arrived.put(None)

        gathering = asyncio.get_running_loop().create_task(gather())
        gathering.add_done_callback(lambda done: arrived.put_nowait(None) if not done.cancelled() and done.exception() else None)
        writer, index, more = uuid.uuid4().hex, 0, True
        try:
            while more:
                lines = [await arrived.get()]
                while not arrived.empty():
                    lines.append(arrived.get_nowait())
                more = None not in lines
                found = [line for line in lines if line is not None]
                if found:
                    await calls.run(calls.one(requests.write_stream(run_id, key, found, writer, index)), target)
                index += len(found)
            await gathering
        finally:
            gathering.cancel()

    return Pending(name, go)


# ---- reading


def _reading(run_id: str, key: str, schema: Schema | None, start: int, timeout: float | None) -> Live[Any]:
    def ask() -> Asking[Any]:
        following, idle = start, 0.0
        while timeout is None or idle < timeout:
            wait = WAIT_SECONDS if timeout is None else min(WAIT_SECONDS, timeout - idle)
            answer = yield requests.poll_stream(run_id, key, following, max(1, round(wait)))
            if isinstance(answer, ApiError):
                raise answer
            following = answer.next
            texts = [bytes(record.data).decode() for record in answer.records]
            yield texts if schema is None else [schema.read(text, packets.JSON) for text in texts]
            if answer.done:
                return
            idle = 0.0 if texts else idle + wait

    return Live(ask)
