"""What has no end known beforehand: subscriptions and streams. `async for`, or `for` under `outlast.sync`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar

from outlast.client import connection
from outlast.client.calls import bound
from outlast.client.requests import Request
from outlast.errors import ApiError

T = TypeVar("T")
P = ParamSpec("P")
Asking = Generator[Request[Any] | list[T], Any, None]  # yields requests, is sent their answers (or errors), and yields lists of items


class Live(Generic[T]):
    """Items as they come, asked for by long polls."""

    def __init__(self, ask: Callable[[], Asking[T]]) -> None:
        self._ask = ask
        self._target = bound.get()

    async def __aiter__(self) -> AsyncIterator[T]:
        target, asking = self._target or connection.current(), self._ask()
        for step in asking:
            while isinstance(step, Request):
                try:
                    answer: Any = await target.send(step)
                except ApiError as error:
                    answer = error
                try:
                    step = asking.send(answer)
                except StopIteration:
                    return
            for item in step:
                yield item

    def block(self) -> Iterator[T]:
        target, asking = self._target or connection.current(), self._ask()
        for step in asking:
            while isinstance(step, Request):
                try:
                    answer: Any = target.send_sync(step)
                except ApiError as error:
                    answer = error
                try:
                    step = asking.send(answer)
                except StopIteration:
                    return
            yield from step


def blocking_live(verb: Callable[P, Live[T]]) -> Callable[P, Iterator[T]]:
    @wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return verb(*args, **kwargs).block()

    return wrapped
