"""Cron: five fields in a time zone, and the instants they name. Pure; UTC milliseconds in and out.

Daylight saving, for a pattern whose hour field holds neither `*` nor `/`: a time in the skipped hour fires once, at the first
instant after the gap, and one in the repeated hour at the first pass only. A pattern with a wildcard or step in its hours fires at
every matching instant that really occurs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from outlast.model.limits import MAX_CRON_CHARS

_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_SIZES = (60, 24, 31, 12, 7)
_FIELD = re.compile(r"[A-Z0-9*,/#-]+", re.ASCII)
_MUST_COME_WITHIN = timedelta(days=5 * 366)
_OVERLAP = timedelta(hours=3)  # no zone has repeated more since 1970
_LOOK_BACK_HOURS = (1, 4, 24, 24 * 8, 24 * 33, 24 * 367, 24 * 367 * 5)


def check_zone(name: str) -> str:
    """A zone's name, known to be one; no file is looked up by it before.

    Raises:
        ValueError: it is not the name of an IANA zone.
    """
    if name not in _zones():
        raise ValueError(f"timezone {name[:64]!r} is unknown: use an IANA name such as 'UTC' or 'Europe/Paris'")
    return name


def zones(*, utc: bool = True) -> list[str]:
    return sorted(name for name in _zones() if utc or name != "UTC")


@lru_cache(1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def check_cron(text: str, now: int) -> str:
    """A pattern in its plain form, known to come within five years of `now`.

    Raises:
        ValueError: it is not five fields, a field cannot be, or it names a date that never comes; the message says which.
    """
    text = " ".join(text[: MAX_CRON_CHARS + 1].split())
    if len(text) > MAX_CRON_CHARS:
        raise ValueError(f"a cron pattern has at most {MAX_CRON_CHARS} characters")
    if text.startswith("@"):
        raise ValueError(f"{text[:20]!r} is a nickname: write five fields, as in '0 0 * * *' for every midnight")
    parts = text.upper().split()
    if len(parts) == 6:
        raise ValueError("cron patterns with seconds (six fields) are not supported: use five, 'minute hour day month weekday'")
    if len(parts) != 5:
        raise ValueError(f"a cron pattern has five fields, 'minute hour day month weekday'; {text[:60]!r} has {len(parts)}")
    for name, size, part in zip(_FIELDS, _SIZES, parts, strict=True):
        _check_field(name, size, part)
    try:
        start = _naive(now)
        first = next(_wall_times(text, start), None)
    except CronSimError as error:
        raise ValueError(f"cron pattern {text[:60]!r}: {error}") from None
    if first is None or first - start > _MUST_COME_WITHIN:
        raise ValueError(f"cron pattern {text[:60]!r} names a date that does not come within five years")
    return text


def _check_field(name: str, size: int, part: str) -> None:
    if part in ("R", "H") or re.match(r"[RH](\(|/|$)", part):
        raise ValueError(
            f"{part[:20]!r} in {name}: random fields are not supported, each server would choose another time; spread by window="
        )
    if not _FIELD.fullmatch(part):
        raise ValueError(f"bad {name} {part[:20]!r}: use digits, names, and * , - / L #")
    for step in re.findall(r"/([0-9]*)", part):
        if not step or not 1 <= int(step[:9]) < max(size, 2):
            raise ValueError(f"bad {name} {part[:20]!r}: a step is from 1 to {size - 1}")


def describe(cron: str) -> str:
    """The pattern in plain English."""
    try:
        return CronSim(cron, datetime(2000, 1, 1)).explain()
    except Exception:  # a pattern its describer has no words for
        return cron


def occurrences(cron: str, timezone: str, after: int) -> Iterator[int]:
    """The instants of a pattern, each later than `after` and than the one before."""
    times = _occurrences(cron, ZoneInfo(timezone), datetime.fromtimestamp(after / 1_000, UTC))
    return (round(at.timestamp() * 1_000) for at in times)


def following(cron: str, timezone: str, after: int) -> int:
    """The first instant of a checked pattern that is later than `after`."""
    return next(occurrences(cron, timezone, after))


def latest(cron: str, timezone: str, at: int, since: int) -> int | None:
    """The last instant of the pattern in (since, at]."""
    for hours in _LOOK_BACK_HOURS:
        start = max(since, at - hours * 3_600_000)
        found = None
        for found_at in occurrences(cron, timezone, start):
            if found_at > at:
                break
            found = found_at
        if found is not None or start == since:
            return found
    return None


def between(cron: str, timezone: str, after: int, until: int, limit: int) -> list[int]:
    """At most `limit` instants in (after, until], the first ones."""
    found: list[int] = []
    for at in occurrences(cron, timezone, after):
        if at > until or len(found) == limit:
            break
        found.append(at)
    return found


def _occurrences(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    hours = cron.split()[1]
    follow = _every_real_instant if "*" in hours or "/" in hours else _once_a_wall_time
    return follow(cron, zone, after)


def _once_a_wall_time(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    for wall in _wall_times(cron, _local(after, zone) - _OVERLAP):
        at = _after_gap(wall, zone)
        if at > after:
            yield at
            after = at


def _every_real_instant(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """The first pass of every wall time in order, with the second passes of a repeated hour merged in behind."""
    repeated: list[datetime] = []
    for wall in _wall_times(cron, _local(after, zone) - _OVERLAP):
        first = wall.replace(tzinfo=zone).astimezone(UTC)
        while repeated and repeated[0] < first:
            if (at := repeated.pop(0)) > after:
                yield at
        if _is_imaginary(wall, first, zone):
            continue
        second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        if second != first:
            repeated.append(second)
        if first > after:
            yield first


def _wall_times(cron: str, after: datetime) -> Iterator[datetime]:
    """Matching wall clock times, without a zone. Two day fields that are not `*` are alternatives, as in Trigger.dev."""
    found = CronSim(cron, after)
    found.day_and = "*" in cron.split()[2::2]
    return found


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0, microsecond=0)


def _naive(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC).replace(tzinfo=None, microsecond=0)


def _is_imaginary(wall: datetime, at: datetime, zone: ZoneInfo) -> bool:
    return at.astimezone(zone).replace(tzinfo=None) != wall


def _after_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a wall clock time; of one that is skipped, the first instant after the gap."""
    at = wall.replace(tzinfo=zone).astimezone(UTC)
    if not _is_imaginary(wall, at, zone):
        return at
    # taken with the offset before the gap it lies as far behind the gap as it lies inside
    before = wall.replace(tzinfo=zone).utcoffset()
    low, high = at - timedelta(hours=26), at  # of the two ends, `low` is before the change and `high` after it
    while high - low > timedelta(minutes=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return (low + timedelta(minutes=1)).replace(second=0, microsecond=0)
