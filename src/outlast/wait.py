"""Waiting inside a task: for time, for people, for the first of several. A waiting run holds no slot and survives a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from outlast import durable, values
from outlast.client import requests
from outlast.client.answers import Token, TokenHandle
from outlast.client.calls import Flow, Pages, bound, call, run
from outlast.errors import InvalidValue
from outlast.idempotency import hashed
from outlast.model import payload as packets
from outlast.model.limits import MAX_FUTURE_MS
from outlast.pending import Pending, PendingResult
from outlast.races import Won, as_completed, first
from outlast.races import any_ as any
from outlast.results import Result, RunError, TimedOut
from outlast.schema import Schema

__all__ = [
    "Won", "any", "as_completed", "complete_token", "create_token", "first", "for_", "for_token", "list_tokens", "retrieve_token", "until",
]  # fmt: skip

_MS = {"seconds": 1_000, "minutes": 60_000, "hours": 3_600_000, "days": 86_400_000, "weeks": 604_800_000}
_MONTH_MS = 28 * 86_400_000  # the shortest: enough to tell that a number of them is absurd


def for_(
    *,
    seconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    days: float = 0,
    weeks: float = 0,
    months: int = 0,
    years: int = 0,
    key: str | None = None,
    idempotency_key: str | Sequence[str] | None = None,
    idempotency_key_ttl: str | None = None,
) -> Pending[None]:
    """Wait for a time; all units add up. The end is fixed when it begins, by the server's clock, and never moves.

    Months and years are those of the calendar, in UTC: a month after 31 January is the last of February. With an idempotency key
    that was used within its time (30 days, unless said otherwise) the wait ends when that one does, or did: an attempt that begins
    anew does not wait again.

    Raises:
        InvalidValue: a negative time, or more than ten years.
        OutsideRunError: outside of a task.
    """
    given = {"seconds": seconds, "minutes": minutes, "hours": hours, "days": days, "weeks": weeks}
    total = sum(amount * _MS[unit] for unit, amount in given.items())
    of_calendar = months + 12 * years
    if not (total >= 0 and of_calendar >= 0 and total + of_calendar * _MONTH_MS <= MAX_FUTURE_MS):
        raise InvalidValue(f"wait.for_: the time must be 0 to ten years, and is {total / 1_000:g} seconds and {of_calendar} months")
    if of_calendar != int(of_calendar):
        raise InvalidValue("wait.for_: months and years are whole numbers")
    args = {"ms": round(total), **({"months": int(of_calendar)} if of_calendar else {})}
    return _wait("wait.for_(…)", "for", args, key, idempotency_key, idempotency_key_ttl)


def until(
    date: datetime,
    *,
    throw_if_in_the_past: bool = False,
    key: str | None = None,
    idempotency_key: str | Sequence[str] | None = None,
    idempotency_key_ttl: str | None = None,
) -> Pending[None]:
    """Wait until a moment. One in the past is over at once. The idempotency key is as for `wait.for_`.

    Raises:
        InvalidValue: a date without a zone.
        Unprocessable: more than ten years away; or in the past, with `throw_if_in_the_past`.
        OutsideRunError: outside of a task.
    """
    if date.tzinfo is None:
        raise InvalidValue(f"wait.until: {date.isoformat()} has no time zone: use datetime(…, tzinfo=UTC)")
    strict = {"strict": 1} if throw_if_in_the_past else {}
    args = {"until": round(date.timestamp() * 1_000), **strict}
    return _wait("wait.until(…)", "until", args, key, idempotency_key, idempotency_key_ttl)


def _wait(
    call: str, label: str, args: dict[str, Any], key: str | None, idempotency_key: str | Sequence[str] | None, ttl: str | None
) -> Pending[None]:
    here = durable.required(call)
    if idempotency_key is not None:
        args = {**args, "key": str(hashed(idempotency_key)), "key_ttl_ms": durable.timeout_ms(ttl, f"{call}: idempotency_key_ttl")}
    # not the time itself: code that computes it from the clock would compute another one, and the recorded end counts
    slot = here.slot("wait", label, key, "", call)

    async def go() -> None:
        await here.perform(slot, args)

    return Pending(call, go, lambda: here.block(go))


def create_token(
    *,
    timeout: str | datetime | None = None,
    tags: str | Sequence[str] = (),
    idempotency_key: str | Sequence[str] | None = None,
    idempotency_key_ttl: str | None = None,
) -> Pending[TokenHandle]:
    """Make a token: something that a person or another program completes, and that runs wait for.

    The same idempotency key within its time (an hour, unless said otherwise) gives the same token.

    Raises:
        ApiError: the server refused, for example a timeout in the past.
    """
    name = "wait.create_token(…)"
    body: dict[str, Any] = {"tags": [tags] if isinstance(tags, str) else list(tags)}
    if timeout is not None:
        body["timeout"] = timeout if isinstance(timeout, str) else timeout.isoformat()
    if idempotency_key is not None:
        body["idempotencyKey"] = str(hashed(idempotency_key))
    if idempotency_key_ttl is not None:
        body["idempotencyKeyTTL"] = idempotency_key_ttl
    here = None if bound.get() is not None else durable.here(name)
    if here is None:
        return call(name, requests.create_token(body))
    slot = here.slot("step", "wait.create_token", None, "", name)
    # a worker that dies before this is recorded asks again, and is given the same token
    own = hashlib.sha256(f"{here.run_id}:{slot.key}".encode()).hexdigest()

    async def go() -> TokenHandle:
        known = here.entry(slot)
        args: dict[str, Any] = {"value": known.value, "value_type": known.value_type} if known is not None else {}
        if known is None:
            made = await run(_one({"idempotencyKey": own, "idempotencyKeyTTL": "30d", **body}))
            args = {"value": packets.encode([made.id, made.url, made.public_access_token])[0], "value_type": packets.JSON}
        entry = await here.perform(slot, args)
        return TokenHandle(*packets.decode(entry.value, packets.JSON))

    return Pending(name, go, lambda: here.block(go))


def _one(body: dict[str, Any]) -> Flow[TokenHandle]:
    return (yield requests.create_token(body))


def for_token(
    token: TokenHandle | Token | str, *, type: Any = None, timeout: str | float | None = None, key: str | None = None
) -> PendingResult[Any]:
    """Wait until a token is completed, or its time is over. `type` checks and reads the value, as a payload's annotation does.

    `timeout`: of this wait alone, "1h30m" or seconds; the token stays open for others. `.unwrap()` raises WaitTimedOut.

    Raises:
        OutsideRunError: outside of a task.
    """
    name = "wait.for_token(…)"
    here = durable.required(name)
    token_id = token if isinstance(token, str) else token.id
    slot = here.slot("token", token_id, key, "", name)
    args = {"id": token_id, "timeout_ms": durable.timeout_ms(timeout, name)}

    async def go() -> Result[Any]:
        entry = await here.perform(slot, args)
        if entry.status == "ok":
            schema = Schema(_nothing, type)
            return Result(True, token_id, "token", schema.read(entry.value, entry.value_type or packets.JSON))
        failure = durable.failure(entry)
        return TimedOut(False, token_id, "token", RunError(failure.name, failure.message))

    return PendingResult(name, go, lambda: here.block(go))


def _nothing() -> None: ...


def complete_token(token: TokenHandle | Token | str, data: Any = None) -> Pending[None]:
    """Complete a token; the runs that wait for it go on with `data`. A second time changes nothing.

    Raises:
        NotFound: there is no such token in this environment.
        InvalidValue: the data cannot travel.
    """
    text, data_type = values.encode(data)
    if data_type != packets.JSON:
        text = values.encode(packets.to_json(text, data_type))[0]
    return call("wait.complete_token(…)", requests.complete_token(token if isinstance(token, str) else token.id, text))


def retrieve_token(token: TokenHandle | Token | str) -> Pending[Token]:
    """A token with its status, and its output once it has one.

    Raises:
        NotFound: there is no such token in this environment.
    """
    return call("wait.retrieve_token(…)", requests.retrieve_token(token if isinstance(token, str) else token.id))


def list_tokens(
    *,
    status: Literal["WAITING", "COMPLETED", "TIMED_OUT"] | None = None,
    tag: str | Sequence[str] | None = None,
    idempotency_key: str | None = None,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    period: str | None = None,
) -> Pages[Token]:
    """Tokens that match, newest first: all filters, and one of the tags. Their outputs are only in `retrieve_token`."""
    given: Mapping[str, str | None] = {
        "filter[status]": status,
        "filter[tags]": tag if tag is None or isinstance(tag, str) else ",".join(tag),
        "filter[idempotencyKey]": idempotency_key,
        "filter[createdAt][from]": None if created_from is None else str(round(created_from.timestamp() * 1_000)),
        "filter[createdAt][to]": None if created_to is None else str(round(created_to.timestamp() * 1_000)),
        "filter[createdAt][period]": period,
    }
    query = {name: value for name, value in given.items() if value is not None}
    return Pages(lambda cursor: requests.list_tokens({**query, **({"page[after]": cursor} if cursor else {})}))
