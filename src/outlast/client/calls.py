"""How nouns make their calls. A flow yields requests and is given their answers: written once, run blocking or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar

from outlast.client import connection
from outlast.client.answers import Page
from outlast.client.connection import Connection
from outlast.client.requests import Request
from outlast.errors import ApiError
from outlast.pending import Pending

T = TypeVar("T")
P = ParamSpec("P")


class Pause:
    """What a flow yields to wait a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


Flow = Generator[Request[Any] | Pause, Any, T]

bound: ContextVar[Connection | None] = ContextVar("outlast_connection", default=None)  # a Client's own, inside its verbs


def here() -> Connection:
    """The connection of the Client whose verb this is, else the process's."""
    return bound.get() or connection.current()


async def run(flow: Flow[T], target: Connection | None = None) -> T:
    """Drive a flow; what the server refuses is raised where the flow asked."""
    target = target or here()
    answer: Any = None
    refused: ApiError | None = None
    try:
        while True:
            asked = flow.send(answer) if refused is None else flow.throw(refused)
            answer = refused = None
            try:
                answer = await (target.pause(asked.seconds) if isinstance(asked, Pause) else target.send(asked))
            except ApiError as error:
                refused = error
    except StopIteration as stop:
        return stop.value


def run_sync(flow: Flow[T], target: Connection | None = None) -> T:
    """The same, blocking."""
    target = target or here()
    answer: Any = None
    refused: ApiError | None = None
    try:
        while True:
            asked = flow.send(answer) if refused is None else flow.throw(refused)
            answer = refused = None
            try:
                answer = target.pause_sync(asked.seconds) if isinstance(asked, Pause) else target.send_sync(asked)
            except ApiError as error:
                refused = error
    except StopIteration as stop:
        return stop.value


def one(request: Request[T]) -> Flow[T]:
    return (yield request)


def call(name: str, request: Request[T]) -> Pending[T]:
    target = bound.get()
    return Pending(name, lambda: run(one(request), target), lambda: run_sync(one(request), target))


def flow(name: str, make: Callable[[], Flow[T]]) -> Pending[T]:
    target = bound.get()

    def start() -> Coroutine[Any, Any, T]:
        return run(make(), target)

    return Pending(name, start, lambda: run_sync(make(), target))


class Pages(Generic[T]):
    """All items of a list, fetched page by page: `async for`, or `for` under `outlast.sync`."""

    def __init__(self, fetch: Callable[[str | None], Request[Page[T]]]) -> None:
        self._fetch = fetch
        self._target = bound.get()

    async def __aiter__(self) -> AsyncIterator[T]:
        target, cursor = self._target or connection.current(), None
        while True:
            page = await target.send(self._fetch(cursor))
            for item in page.data:
                yield item
            cursor = page.next
            if cursor is None:
                return

    def block(self) -> Iterator[T]:
        target, cursor = self._target or connection.current(), None
        while True:
            page = target.send_sync(self._fetch(cursor))
            yield from page.data
            cursor = page.next
            if cursor is None:
                return


def blocking(verb: Callable[P, Pending[T]]) -> Callable[P, T]:
    """The same verb, blocking: same name, parameters and description."""

    @wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        return verb(*args, **kwargs).block()

    return wrapped


def blocking_pages(verb: Callable[P, Pages[T]]) -> Callable[P, Iterator[T]]:
    @wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return verb(*args, **kwargs).block()

    return wrapped
