"""A schedule: when a task is triggered by itself, what happens when it was missed or still runs, and how load is spread. Pure."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import msgspec

from outlast.model import cron as crons
from outlast.model.duration import FORMS, parse_duration
from outlast.model.limits import CATCH_UP_MS, MISSED_MS

Overlap = Literal["allow", "skip", "queue", "cancel_previous"]
CatchUp = Literal["none", "latest", "all"]
OVERLAPS: tuple[str, ...] = get_args(Overlap)
CATCH_UPS: tuple[str, ...] = get_args(CatchUp)
UPCOMING = 5  # future times a payload names
TEST_ID = "sched_1234"  # what a test run of a scheduled task is told


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """`next_at` is the next nominal time, `due_at` when it really fires (a window spreads it); None while it is inactive."""

    id: str
    env_id: int
    task: str
    type: Literal["DECLARATIVE", "IMPERATIVE"]
    cron: str
    timezone: str
    deduplication_key: str | None = None
    external_id: str | None = None
    window: str | None = None
    overlap: Overlap = "allow"
    catch_up: CatchUp = "none"
    active: bool = True
    pause_reason: str | None = None
    revision: int = 1
    next_at: int | None = None
    due_at: int | None = None
    last_at: int | None = None  # nominal time of the last run it made
    last_run_id: str | None = None
    created_at: int
    updated_at: int


class Tick(msgspec.Struct, frozen=True):
    """What was done at a nominal time: a run, or why there is none."""

    nominal_at: int
    at: int
    run_id: str | None = None
    reason: str | None = None


def check_window(text: str) -> str:
    """A window: a duration, or a share of the interval such as "50%".

    Raises:
        ValueError: it is neither.
    """
    if text.endswith("%"):
        number = text[:-1]
        if not (number.isascii() and number.isdigit() and int(number[:9]) <= 100):
            raise ValueError(f"window {text[:20]!r}: a share of the interval is from 0% to 100%")
        return text
    try:
        parse_duration(text)
    except ValueError as error:
        raise ValueError(f"window must be {FORMS}, or a share of the interval such as '50%': {error}") from None
    return text


def offset_ms(s: Schedule, interval_ms: int, secret: str) -> int:
    """How long after its nominal time this schedule fires: always the same share of its window, below the next nominal time."""
    if s.window is None:
        return 0
    width = interval_ms * int(s.window[:-1]) // 100 if s.window.endswith("%") else min(parse_duration(s.window), interval_ms)
    digest = hmac.digest(secret.encode(), f"{s.env_id}:{s.task}:{s.deduplication_key or ''}".encode(), hashlib.sha256)
    return int.from_bytes(digest[:7]) * width // 2**56


def effective_at(s: Schedule, nominal: int, secret: str) -> int:
    if s.window is None:
        return nominal
    return nominal + offset_ms(s, crons.following(s.cron, s.timezone, nominal) - nominal, secret)


def planned(s: Schedule, nominal: int, secret: str) -> Schedule:
    """The schedule with its next time."""
    return msgspec.structs.replace(s, next_at=nominal, due_at=effective_at(s, nominal, secret))


def started(s: Schedule, now: int, secret: str) -> Schedule:
    """Created, changed or activated: it goes on with the first time after now."""
    return planned(s, crons.following(s.cron, s.timezone, now), secret)


def stopped(s: Schedule, reason: str | None) -> Schedule:
    return msgspec.structs.replace(s, active=False, pause_reason=reason, next_at=None, due_at=None)


def to_fire(s: Schedule, now: int, secret: str, limit: int) -> tuple[list[int], int]:
    """The nominal times to fire now, by the catch-up policy, and the one after them.

    What is late by less than `MISSED_MS` was not missed. "none" passes over what was, "latest" fires the last of it,
    "all" each of the last day, at most `limit` at a time: the rest stays due.
    """
    assert s.next_at is not None
    if s.catch_up == "all":
        start = max(s.next_at - 1, now - CATCH_UP_MS)
        times = [at for at in crons.between(s.cron, s.timezone, start, now, limit) if effective_at(s, at, secret) <= now]
        return times, crons.following(s.cron, s.timezone, times[-1] if times else start)
    last = crons.latest(s.cron, s.timezone, now, s.next_at - 1)
    while last is not None and effective_at(s, last, secret) > now:  # its window is not over: it is the one before that is due
        last = crons.latest(s.cron, s.timezone, last - 1, s.next_at - 1)
    if last is None:  # the clock went back
        return [], s.next_at
    missed = s.catch_up == "none" and now - effective_at(s, last, secret) > MISSED_MS
    return [] if missed else [last], crons.following(s.cron, s.timezone, last)


def payload(s: Schedule, nominal: int, last_at: int | None) -> dict[str, Any]:
    """What the task is given, by Trigger.dev's names; times are datetimes."""
    times = crons.occurrences(s.cron, s.timezone, nominal)
    upcoming = [next(times) for _ in range(UPCOMING)]
    found: dict[str, Any] = {
        "type": s.type,
        "timestamp": moment(nominal),
        "timezone": s.timezone,
        "scheduleId": s.id,
        "upcoming": [moment(at) for at in upcoming],
    }
    if last_at is not None:
        found["lastTimestamp"] = moment(last_at)
    if s.external_id is not None:
        found["externalId"] = s.external_id
    return found


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)
