"""A client of its own, for programs that talk to several servers."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from outlast import alerts, auth, batch, bulk, deployments, env_vars, idempotency, queues, runs, schedules, tasks
from outlast.client.address import find
from outlast.client.calls import bound
from outlast.client.connection import Connection

if TYPE_CHECKING:
    import httpx


class Client:
    """The same nouns, for one server and key. `transport` carries the requests instead of a socket.

    Raises:
        ConfigurationError: nothing says where the server is.

    Example:
        >>> async with Client(api_url="http://127.0.0.1:3040", secret_key="tr_dev_sk_…") as client:  # doctest: +SKIP
        ...     await client.runs.retrieve("run_…")
    """

    def __init__(
        self, *, api_url: str | None = None, secret_key: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._connection = Connection(find(api_url, secret_key), transport=transport)
        # type checkers see the modules themselves: the verbs are theirs
        self.tasks = tasks if TYPE_CHECKING else Noun(tasks, self._connection)
        self.batch = batch if TYPE_CHECKING else Noun(batch, self._connection)
        self.runs = runs if TYPE_CHECKING else Noun(runs, self._connection)
        self.queues = queues if TYPE_CHECKING else Noun(queues, self._connection)
        self.auth = auth if TYPE_CHECKING else Noun(auth, self._connection)
        self.deployments = deployments if TYPE_CHECKING else Noun(deployments, self._connection)
        self.idempotency = idempotency if TYPE_CHECKING else Noun(idempotency, self._connection)
        self.env_vars = env_vars if TYPE_CHECKING else Noun(env_vars, self._connection)
        self.alerts = alerts if TYPE_CHECKING else Noun(alerts, self._connection)
        self.bulk = bulk if TYPE_CHECKING else Noun(bulk, self._connection)
        self.schedules = schedules if TYPE_CHECKING else Noun(schedules, self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._connection.close()


class Noun:
    """A noun whose verbs use one connection."""

    def __init__(self, noun: ModuleType | type, connection: Connection) -> None:
        self._noun = noun
        self._connection = connection

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        function = getattr(self._noun, verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            token = bound.set(self._connection)
            try:
                return function(*args, **kwargs)
            finally:
                bound.reset(token)

        return call
