"""Durations as people write them: `90s`, `10m`, `1h30m`, `2d`, `1w`."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime
from functools import lru_cache

from outlast.model.limits import MAX_FUTURE_MS

FORMS = "a duration such as '90s', '10m', '1h30m', '2d' or '1w'"
_WHOLE = re.compile(r"(?:[0-9]+(?:w|d|hr|h|m|s))+")
_PART = re.compile(r"([0-9]+)(w|d|hr|h|m|s)")
_UNIT_MS = {"w": 604_800_000, "d": 86_400_000, "hr": 3_600_000, "h": 3_600_000, "m": 60_000, "s": 1_000}


@lru_cache(1_000)
def parse_duration(text: str) -> int:
    """Milliseconds of a duration.

    Raises:
        ValueError: not a duration, longer than 100 characters, or over ten years; the message names the accepted forms.
    """
    if len(text) > 100 or not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:100]!r} is not {FORMS}")
    total = sum(int(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text))
    if total > MAX_FUTURE_MS:
        raise ValueError(f"{text!r} is longer than ten years")
    return total


def format_duration(ms: int) -> str:
    """The shortest text that `parse_duration` reads back, rounded down to whole seconds."""
    seconds = ms // 1_000
    parts: list[str] = []
    for unit, size in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def add_months(at: int, months: int) -> int:
    """Calendar months after a time in UTC; the 31st becomes the last day of a shorter month.

    Example:
        >>> add_months(1_706_659_200_000, 1) - 1_706_659_200_000 == 29 * 86_400_000  # 31 January 2024
        True
    """
    if not months:
        return at
    then = datetime.fromtimestamp(at / 1_000, UTC)
    year, month = divmod(then.year * 12 + then.month - 1 + months, 12)
    moved = then.replace(year=year, month=month + 1, day=min(then.day, monthrange(year, month + 1)[1]))
    return at + round((moved - then).total_seconds() * 1_000)
