"""Retry policies, and trying again inside a task: a block of code, or an HTTP request."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from outlast import durable
from outlast.errors import AbortTaskRun, DurableError, InvalidValue, OutsideRunError
from outlast.model.journal import TRIED
from outlast.model.limits import MAX_FUTURE_MS
from outlast.model.payload import JSON
from outlast.model.retry import Retry, backoff_ms
from outlast.pending import Pending

if TYPE_CHECKING:
    import httpx

__all__ = ["Backoff", "Headers", "Retry", "backoff", "backoff_ms", "fetch", "headers", "on_throw"]

T = TypeVar("T")
ResetFormat = Literal["unix_timestamp", "unix_timestamp_in_ms", "iso_8601", "iso_8601_duration_openai_variant"]
BodyFilter = Callable[[str], bool]
Once = Callable[[int], Awaitable[tuple[Any, int | None]]]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def on_throw(
    fn: Callable[..., Any],
    *,
    max_attempts: int = 3,
    factor: float = 2.0,
    min_timeout: float = 1.0,
    max_timeout: float = 60.0,
    randomize: bool = True,
) -> Pending[Any]:
    """Call a function again when it raises; after the last attempt its error is raised. `def` functions run in a thread.

    In a task the pauses are durable waits, so they hold no slot; a try that failed before a pause is not made again in a replay.
    A parameter called `attempt` is given the number of the try. AbortTaskRun ends it at once.

    Example:
        >>> await retry.on_throw(lambda: call_flaky_service(), max_attempts=5)  # doctest: +SKIP
    """
    policy = Retry(max_attempts=max_attempts, factor=factor, min_timeout=min_timeout, max_timeout=max_timeout, randomize=randomize)
    wants_attempt = "attempt" in inspect.signature(fn).parameters

    async def once(attempt: int) -> tuple[Any, int | None]:
        import asyncio

        given = {"attempt": attempt} if wants_attempt else {}
        try:
            made = fn(**given) if inspect.iscoroutinefunction(fn) else await asyncio.to_thread(fn, **given)
            return (await made if inspect.isawaitable(made) else made), None
        except (AbortTaskRun, DurableError, OutsideRunError):
            raise
        except Exception:
            delay = backoff_ms(policy, attempt, random.random())
            if delay is None:
                raise
            return None, delay

    return _tried("retry.on_throw(…)", once)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Try again after growing pauses."""

    retry: Retry
    body_filter: BodyFilter | None = None


@dataclass(frozen=True, slots=True)
class Headers:
    """Try again when the answer's headers say that it may be tried."""

    reset: str
    reset_format: ResetFormat
    limit: str | None
    remaining: str | None
    max_attempts: int
    body_filter: BodyFilter | None = None


def backoff(
    *,
    max_attempts: int = 3,
    factor: float = 2.0,
    min_timeout: float = 1.0,
    max_timeout: float = 60.0,
    randomize: bool = True,
    body_filter: BodyFilter | None = None,
) -> Backoff:
    """A strategy of `fetch`: pauses that grow. `body_filter` looks at the answer's text: only when it says True it is tried again."""
    retry = Retry(max_attempts=max_attempts, factor=factor, min_timeout=min_timeout, max_timeout=max_timeout, randomize=randomize)
    return Backoff(retry, body_filter)


def headers(
    *,
    reset: str = "x-ratelimit-reset",
    reset_format: ResetFormat = "unix_timestamp",
    limit: str | None = None,
    remaining: str | None = None,
    max_attempts: int = 10,
    body_filter: BodyFilter | None = None,
) -> Headers:
    """A strategy of `fetch`: wait until the moment that the header `reset` names. Without a readable one it is a backoff.

    `remaining`: a header that must say 0, or the reset does not count.
    """
    return Headers(reset, reset_format, limit, remaining, max_attempts, body_filter)


_DEFAULT = backoff()


def fetch(
    url: str,
    *,
    method: str = "GET",
    by_status: Mapping[str, Backoff | Headers] | None = None,
    timeout: Backoff = _DEFAULT,
    connection_error: Backoff = _DEFAULT,
    timeout_seconds: float = 60.0,
    client: httpx.AsyncClient | None = None,
    **options: Any,
) -> Pending[httpx.Response]:
    """An HTTP request on httpx, tried again by the answer's status, after a timeout, and when no connection was made.

    `by_status`: "429", "500-599", "5xx", several with commas; without it "408,409,429,5xx" back off. `options` go to httpx
    (headers, json, content, params …). Other statuses are given back as they are.

    Raises:
        httpx.HTTPStatusError: the last try had a status that is tried again.
        httpx.TransportError: the last try had no answer.
        InvalidValue: a status that cannot be read.
    """
    rules = [(_statuses(text), strategy) for text, strategy in (by_status or {"408,409,429,5xx": _DEFAULT}).items()]

    async def once(attempt: int) -> tuple[Any, int | None]:
        import httpx

        try:
            response = await _request(client, method, url, timeout_seconds, options)
        except httpx.TransportError as error:
            policy = (timeout if isinstance(error, httpx.TimeoutException) else connection_error).retry
            delay = backoff_ms(policy, attempt, random.random())
            if delay is None:
                raise
            return None, delay
        for ranges, strategy in rules:
            if any(response.status_code in found for found in ranges):
                if strategy.body_filter is not None and not strategy.body_filter(response.text):
                    break
                delay = _pause(strategy, response, attempt)
                if delay is None:
                    response.raise_for_status()
                return response, delay
        return response, None

    return _tried(f"retry.fetch({url!r}, …)", once)


async def _request(client: httpx.AsyncClient | None, method: str, url: str, seconds: float, options: dict[str, Any]) -> httpx.Response:
    if client is not None:
        return await client.request(method, url, timeout=seconds, **options)
    import httpx

    async with httpx.AsyncClient(follow_redirects=True) as made:
        return await made.request(method, url, timeout=seconds, **options)


def _statuses(text: str) -> list[range]:
    found: list[range] = []
    for part in (part.strip() for part in text.split(",")):
        if match := re.fullmatch(r"([1-5])xx", part):
            found.append(range(int(match[1]) * 100, int(match[1]) * 100 + 100))
        elif match := re.fullmatch(r"(\d{3})(?:-(\d{3}))?", part):
            found.append(range(int(match[1]), int(match[2] or match[1]) + 1))
        else:
            raise InvalidValue(f"by_status: {part!r} is no status: write 429, 500-599 or 5xx")
    return found


def _pause(strategy: Backoff | Headers, response: httpx.Response, attempt: int) -> int | None:
    """Milliseconds until the next try; None: there is none."""
    if isinstance(strategy, Backoff):
        return backoff_ms(strategy.retry, attempt, random.random())
    fallback = backoff_ms(Retry(max_attempts=strategy.max_attempts), attempt, random.random())
    text = response.headers.get(strategy.reset)
    remaining = response.headers.get(strategy.remaining) if strategy.remaining else None
    if fallback is None or text is None or remaining not in (None, "0"):
        return fallback
    try:
        return max(0, min(MAX_FUTURE_MS, _until(text, strategy.reset_format)))
    except (ValueError, OverflowError):
        return fallback


def _until(text: str, reset_format: ResetFormat) -> int:
    """Milliseconds from now."""
    now = datetime.now(UTC).timestamp() * 1_000
    match reset_format:
        case "unix_timestamp":
            return round(float(text) * 1_000 - now)
        case "unix_timestamp_in_ms":
            return round(float(text) - now)
        case "iso_8601":
            at = datetime.fromisoformat(text.replace("Z", "+00:00"))
            return round((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1_000 - now)
        case _:
            parts = _DURATION.findall(text)
            if not parts:
                raise ValueError(text)
            return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))


def _tried(call: str, once: Once) -> Pending[Any]:
    """Until it gives no pause any more. Inside a task each failed try is recorded with its pause, and its own operations with it."""
    here = None if durable.in_step.get() is not None else durable.here(call)

    async def go() -> Any:
        import asyncio

        attempt = 1
        while True:
            if here is None:
                value, delay = await once(attempt)
            else:
                value, delay = await _recorded_try(here, call, once, attempt)
            if delay is None:
                return value
            await (asyncio.sleep(delay / 1_000) if here is None else _wait(here, call, delay))
            attempt += 1

    return Pending(call, go, lambda: _block(here, go))


async def _recorded_try(here: durable.Durable, call: str, once: Once, attempt: int) -> tuple[Any, int | None]:
    import asyncio

    slot = here.slot("mark", TRIED, None, "", call)
    if here.entry(slot) is not None:
        here.skip("_one_try")
        return None, int(here.take(slot, dict).value or "0")
    # a place of its own for what the try records: all of it is passed over when the try is
    value, delay = await asyncio.ensure_future(_one_try(once, attempt))
    if delay is not None:
        here.take(slot, lambda: {"value": str(delay), "value_type": JSON})
    return value, delay


async def _one_try(once: Once, attempt: int) -> tuple[Any, int | None]:
    return await once(attempt)


async def _wait(here: durable.Durable, call: str, delay: int) -> None:
    await here.perform(here.slot("wait", TRIED, None, "", call), {"ms": delay})


def _block(here: durable.Durable | None, go: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    if here is not None:
        return here.block(go)
    import asyncio

    return asyncio.run(go())
