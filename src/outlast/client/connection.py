"""Sending requests: over httpx, with retries as Trigger.dev's official client does them. Blocking and asynchronous."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import msgspec

from outlast.client.address import Address, find
from outlast.client.requests import Request
from outlast.current import attempt as current_attempt
from outlast.errors import ApiError, ConnectionFailed, api_error
from outlast.version import __version__

if TYPE_CHECKING:
    import asyncio

    import httpx

log = logging.getLogger("outlast.client")
T = TypeVar("T")

ATTEMPTS = 5
FIRST_DELAY = 1.0  # seconds
FACTOR = 1.6
MAX_DELAY = 30.0
RETRIED = frozenset({408, 409, 429})
# of one event loop, but for long polls. httpx goes through all that wait, and all connections, at each request that comes or ends:
# 2,000 at once cost 5 ms of CPU each, by 16 at a time 2
CONNECTIONS = 16
TIMEOUT = 65.0  # seconds; a long poll is held for at most 60
API_VERSION = "2025-07-16"


class _LoopClient(NamedTuple):
    """What one event loop sends with. Long polls have connections of their own, as many as there are of them."""

    quick: httpx.AsyncClient
    held: httpx.AsyncClient
    turns: asyncio.Semaphore
    keeper: AsyncGenerator[None]


class Connection:
    """One server and key. Its HTTP clients are made when they are first needed, one for each event loop."""

    def __init__(
        self,
        address: Address | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sync_transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        sleep_sync: Callable[[float], object] = time.sleep,
    ) -> None:
        self._address = address
        self._transport = transport
        self._sync_transport = sync_transport
        self._sleep = sleep
        self._sleep_sync = sleep_sync
        self._clients: dict[asyncio.AbstractEventLoop, _LoopClient] = {}
        self._sync: httpx.Client | None = None
        self._lock = threading.Lock()

    @property
    def address(self) -> Address:
        if self._address is None:
            self._address = find()
        return self._address

    async def send(self, request: Request[T]) -> T:
        """Send it, again when that may help: the same request id tells the server that it is the same request.

        Raises:
            ApiError: the server refused, or no try succeeded.
        """
        import asyncio  # here: who only defines tasks does not wait for its 20 ms

        import httpx

        here, headers, sleep = await self._of_loop(), self._headers(request), self._sleep or asyncio.sleep
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = await _ask(here, request, headers)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise self._unreachable(error) from error
                await sleep(_delay(attempt))
                continue
            if response.is_success:
                return self._parsed(request, response)
            if attempt == ATTEMPTS or not _may_help(response.status_code, response.headers):
                raise _error(response.status_code, response.content, response.headers)
            await sleep(_pause(attempt, response.status_code, response.headers))
        raise AssertionError("unreachable")

    def send_sync(self, request: Request[T]) -> T:
        """The same, blocking."""
        import httpx

        client, headers = self._sync_client(), self._headers(request)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = client.request(request.method, request.path, content=request.body, params=request.query, headers=headers)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise self._unreachable(error) from error
                self._sleep_sync(_delay(attempt))
                continue
            if response.is_success:
                return self._parsed(request, response)
            if attempt == ATTEMPTS or not _may_help(response.status_code, response.headers):
                raise _error(response.status_code, response.content, response.headers)
            self._sleep_sync(_pause(attempt, response.status_code, response.headers))
        raise AssertionError("unreachable")

    async def pause(self, seconds: float) -> None:
        import asyncio

        await (self._sleep or asyncio.sleep)(seconds)

    def pause_sync(self, seconds: float) -> None:
        self._sleep_sync(seconds)

    async def close(self) -> None:
        """Close the HTTP client of this loop, and the blocking one."""
        import asyncio

        held = self._clients.get(asyncio.get_running_loop())
        if held is not None:
            await held.keeper.aclose()
        self.close_sync()

    def close_sync(self) -> None:
        if self._sync is not None:
            self._sync.close()
            self._sync = None

    def _headers(self, request: Request[Any]) -> dict[str, str]:
        if request.is_anonymous:
            return dict(request.headers)
        headers = {
            "authorization": f"Bearer {self.address.key}",
            "content-type": "application/json",
            "trigger-version": __version__,
            "x-trigger-api-version": API_VERSION,
            "x-trigger-source": "sdk",
            "x-trigger-realtime-streams-version": "v2",
            "x-trigger-request-idempotency-key": request.id,
        }
        if branch := os.environ.get("TRIGGER_PREVIEW_BRANCH"):
            headers["x-trigger-branch"] = branch
        if current_attempt.get() is not None:
            headers["x-trigger-worker"] = "true"
            headers["x-trigger-engine-version"] = "V2"
        headers.update(request.headers)
        return headers

    async def _of_loop(self) -> _LoopClient:
        import asyncio

        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        if found is None:
            for other in [other for other in self._clients if other.is_closed()]:
                self._clients.pop(other, None)  # a loop that ended without a word
            found = self._clients[loop] = self._open(loop)
            await anext(found.keeper)
        return found

    def _open(self, loop: asyncio.AbstractEventLoop) -> _LoopClient:
        import asyncio

        import httpx

        trust = httpx.create_ssl_context(trust_env=False) if self._transport is None else True
        many = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
        few = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        quick, held = (
            httpx.AsyncClient(
                base_url=self.address.url, timeout=TIMEOUT, transport=self._transport, verify=trust, trust_env=False, limits=limits
            )
            for limits in (few, many)
        )
        turns = asyncio.Semaphore(CONNECTIONS if self._transport is None else sys.maxsize)
        return _LoopClient(quick, held, turns, self._keep(loop, quick, held))

    async def _keep(self, loop: asyncio.AbstractEventLoop, *clients: httpx.AsyncClient) -> AsyncGenerator[None]:
        """Loops close the asynchronous generators begun in them before they end, and with this one the client's sockets."""
        try:
            yield
        finally:
            self._clients.pop(loop, None)
            for client in clients:
                await client.aclose()

    def _sync_client(self) -> httpx.Client:
        import httpx

        with self._lock:  # `def` tasks call from many threads
            if self._sync is None:
                self._sync = httpx.Client(base_url=self.address.url, timeout=TIMEOUT, transport=self._sync_transport, trust_env=False)
            return self._sync

    def _parsed(self, request: Request[T], response: httpx.Response) -> T:
        try:
            return request.parse(response.content, response.headers)
        except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
            raise ApiError(
                f"{self.address.url} answered {request.path} with something else than an Outlast server does: is the address right?",
                status=response.status_code,
                headers=response.headers,
                body=response.text[:500],
            ) from error

    def _unreachable(self, error: Exception) -> ConnectionFailed:
        return ConnectionFailed(f"no answer from {self.address.url} after {ATTEMPTS} tries: {error or type(error).__name__}")


_configured: list[Connection] = []
_found: Connection | None = None


def configure(*, api_url: str | None = None, secret_key: str | None = None) -> None:
    """Say which server and key to use, for this whole process.

    Raises:
        ConfigurationError: one of the two is missing, and the environment does not say it.

    Example:
        >>> configure(api_url="http://127.0.0.1:3040", secret_key="tr_dev_sk_…")  # doctest: +SKIP
    """
    _configured.append(Connection(find(api_url, secret_key)))


def use(connection: Connection) -> None:
    """Make this the process's connection until `stop_using`."""
    _configured.append(connection)


def stop_using(connection: Connection) -> None:
    if connection in _configured:
        _configured.remove(connection)


def current() -> Connection:
    """The connection that verbs without a client of their own use."""
    global _found
    if _configured:
        return _configured[-1]
    if _found is None:
        _found = Connection(find())
    return _found


def forget() -> None:
    """Look for the server anew at the next call."""
    global _found
    _found = None


async def _ask(here: _LoopClient, request: Request[Any], headers: dict[str, str]) -> httpx.Response:
    client, turn = (here.held, contextlib.nullcontext()) if request.is_held else (here.quick, here.turns)
    async with turn:
        return await client.request(request.method, request.path, content=request.body, params=request.query, headers=headers)


def _delay(attempt: int) -> float:
    return min(MAX_DELAY, FIRST_DELAY * FACTOR ** (attempt - 1)) * random.uniform(0.5, 1.0)


def _pause(attempt: int, status: int, headers: Mapping[str, str]) -> float:
    reset = headers.get("x-ratelimit-reset")
    if status == 429 and reset is not None and reset.isdecimal():
        seconds = max(0.0, int(reset) / 1_000 - time.time()) + random.random()
        if seconds > MAX_DELAY:
            log.warning("the server limits how often it is called: going on in %d seconds", seconds)  # not to look like a hang
        return seconds
    return _delay(attempt)


def _may_help(status: int, headers: Mapping[str, str]) -> bool:
    asked = headers.get("x-should-retry")
    return asked == "true" if asked in ("true", "false") else status in RETRIED or status >= 500


def _error(status: int, content: bytes, headers: Mapping[str, str]) -> Exception:
    try:
        body: Any = msgspec.json.decode(content)
    except msgspec.DecodeError:
        body = content.decode(errors="replace")[:500]
    message: Any = cast("dict[str, Any]", body).get("error", body) if isinstance(body, dict) else body
    if isinstance(message, dict):
        message = cast("dict[str, Any]", message).get("message", "")
    return api_error(status, str(message), headers, body)
