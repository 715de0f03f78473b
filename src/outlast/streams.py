"""`streams`: what a run makes while it makes it, followed from anywhere; and values sent to a run that waits for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from outlast.client.calls import blocking
from outlast.client.live import Live, blocking_live
from outlast.errors import InvalidValue
from outlast.inputs import Input
from outlast.pending import Pending
from outlast.piping import Chunks, beside_of_here, reading, writing
from outlast.schema import Schema

if TYPE_CHECKING:
    from outlast.client.answers import RunHandle

T = TypeVar("T")
DEFAULT = "default"


class Stream(Generic[T]):
    """A stream by its name; every run has one of its own. `target` is self, parent, root, or a run's id, which works anywhere.

    Example:
        >>> ai = define("ai", type=str)
        >>> await ai.pipe(openai_chunks())  # doctest: +SKIP
    """

    def __init__(self, key: str, type: Any = None) -> None:
        self.key = key
        self.schema = Schema(_nothing, type)

    def append(self, value: T, *, target: str = "self") -> Pending[None]:
        """One chunk more.

        Raises:
            OutsideRunError: outside of a task, unless `target` is a run's id.
            InvalidValue: the value cannot travel, or is larger than 1 MB.
        """
        return writing(f"streams.append({self.key!r}, …)", self.key, [value], target)

    def pipe(self, chunks: Chunks[T], *, target: str = "self") -> Pending[None]:
        """All chunks, each as it comes; done when the last is durable.

        In a replay the chunks that were written before are passed over, but made again: what makes them belongs into a step.

        Raises:
            OutsideRunError, InvalidValue: as `append`.
        """
        return writing(f"streams.pipe({self.key!r}, …)", self.key, chunks, target)

    def writer(self, execute: Callable[[Writer[T]], Awaitable[None]], *, target: str = "self") -> Pending[None]:
        """Call `execute` with a writer: `await to.write(chunk)`, `await to.merge(chunks)`; done when it returns and all is durable."""

        async def go() -> None:
            await execute(Writer(self, target))
            if (beside := beside_of_here()) is not None:
                await beside.flushed()

        return Pending(f"streams.writer({self.key!r}, …)", go)

    def read(self, run: str | RunHandle[Any], *, start_index: int = 0, timeout_in_seconds: float = 60) -> Live[T]:
        """The chunks of a run's stream from `start_index` on, live; ends with the run, or when nothing comes for so long."""
        return reading(run if isinstance(run, str) else run.id, self.key, self.schema, start_index, timeout_in_seconds)


class Writer(Generic[T]):
    def __init__(self, stream: Stream[T], target: str) -> None:
        self._stream = stream
        self._target = target

    async def write(self, value: T) -> None:
        await self._stream.append(value, target=self._target)

    async def merge(self, chunks: Chunks[T]) -> None:
        await self._stream.pipe(chunks, target=self._target)


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
