"""What asynchronous verbs return: a coroutine that has not begun, and says so when it is dropped."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from outlast.results import BatchResult, Result

Out = TypeVar("Out", covariant=True)


class Pending(Coroutine[Any, Any, Out]):
    """The awaitable of one call. A real coroutine, so that `gather`, `TaskGroup` and `asyncio.run` take it.

    Example:
        >>> handle = await hello.trigger("world")  # doctest: +SKIP
    """

    __slots__ = ("_blocking", "_call", "_coroutine", "_owned", "_start")

    def __init__(self, call: str, start: Callable[[], Coroutine[Any, Any, Out]], blocking: Callable[[], Out] | None = None) -> None:
        self._call = call
        self._start = start
        self._blocking = blocking
        self._coroutine: Coroutine[Any, Any, Out] | None = None
        self._owned = False

    def _begun(self) -> Coroutine[Any, Any, Out]:
        if self._coroutine is None:
            self._coroutine = self._start()
        return self._coroutine

    def __await__(self) -> Generator[Any, Any, Out]:
        return self._begun().__await__()

    def block(self) -> Out:
        """Do it now, in this thread; what `outlast.sync` calls."""
        self.close()
        if self._blocking is None:
            raise TypeError(f"{self._call} cannot block: await it")
        return self._blocking()

    def send(self, value: Any, /) -> Any:
        return self._begun().send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        error = typ if isinstance(typ, BaseException) else val if val is not None else typ()
        return self._begun().throw(error)

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()
        else:
            self._coroutine = _closed()  # closed on purpose: no warning
            self._coroutine.close()

    def __del__(self) -> None:
        if self._coroutine is None and not self._owned:
            warnings.warn(
                f"{self._call} was never awaited, so nothing was done: write `await {self._call}`, or use outlast.sync",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )


async def _closed() -> Any:
    return None


class PendingResult(Pending[Result[Out]]):
    """The awaitable of a call that gives a Result."""

    __slots__ = ()

    def unwrap(self) -> Pending[Out]:
        """The output itself; raises SubtaskFailed when the run failed."""

        async def go() -> Out:
            return (await self).unwrap()

        blocking = self._blocking
        self._owned = True  # whoever holds the unwrapped call answers for awaiting it
        return Pending(self._call + ".unwrap()", go, None if blocking is None else lambda: blocking().unwrap())


class PendingBatch(Pending[BatchResult[Out]]):
    """The awaitable of a batch that is waited for."""

    __slots__ = ()

    def unwrap(self) -> Pending[list[Out]]:
        """The outputs themselves; raises SubtaskFailed when a run failed."""

        async def go() -> list[Out]:
            return (await self).unwrap()

        blocking = self._blocking
        self._owned = True
        return Pending(self._call + ".unwrap()", go, None if blocking is None else lambda: blocking().unwrap())
