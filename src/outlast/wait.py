"""Waiting inside a task: for a time that passes. A waiting run holds no slot, and goes on where it was, also after a crash."""

from __future__ import annotations

from datetime import datetime

from outlast import durable
from outlast.errors import InvalidValue
from outlast.model.limits import MAX_FUTURE_MS
from outlast.pending import Pending

_MS = {"seconds": 1_000, "minutes": 60_000, "hours": 3_600_000, "days": 86_400_000, "weeks": 604_800_000}


def for_(
    *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0, weeks: float = 0, key: str | None = None
) -> Pending[None]:
    """Wait for a time; all units add up. The end is fixed when it begins, by the server's clock, and never moves.

    Raises:
        InvalidValue: a negative time, or more than ten years.
        OutsideRunError: outside of a task.
    """
    given = {"seconds": seconds, "minutes": minutes, "hours": hours, "days": days, "weeks": weeks}
    total = sum(amount * _MS[unit] for unit, amount in given.items())
    if not 0 <= total <= MAX_FUTURE_MS:
        raise InvalidValue(f"wait.for_: the time must be 0 to ten years, and is {total / 1_000:g} seconds")
    return _wait("wait.for_(…)", "for", {"ms": round(total)}, key)


def until(date: datetime, *, key: str | None = None) -> Pending[None]:
    """Wait until a moment. One in the past is over at once.

    Raises:
        InvalidValue: a date without a zone, or more than ten years away.
        OutsideRunError: outside of a task.
    """
    if date.tzinfo is None:
        raise InvalidValue(f"wait.until: {date.isoformat()} has no time zone: use datetime(…, tzinfo=UTC)")
    return _wait("wait.until(…)", "until", {"until": round(date.timestamp() * 1_000)}, key)


def _wait(call: str, label: str, args: dict[str, int], key: str | None) -> Pending[None]:
    here = durable.required(call)
    # not the time itself: code that computes it from the clock would compute another one, and the recorded end counts
    slot = here.slot("wait", label, key, "", call)

    async def go() -> None:
        await here.perform(slot, args)

    return Pending(call, go, lambda: here.block(go))
