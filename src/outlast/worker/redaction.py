"""Values of secret variables are taken out of what a run says to people: its lines, the text and stack of its errors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from outlast.model.messages import SECRET_NAMES

MIN_CHARS = 8  # a shorter one would take words out that have nothing to do with it
REDACTED = "<redacted>"


def pattern_of(environment: Mapping[str, str]) -> re.Pattern[str] | None:
    """All secret values, and the lines of those that have several: what is printed comes line by line."""
    names = filter(None, environment.get(SECRET_NAMES, "").split(","))
    values = {part for name in names for value in [environment.get(name, "")] for part in (value, *value.splitlines())}
    found = sorted((value for value in values if len(value) >= MIN_CHARS), key=lambda value: (-len(value), value))
    return re.compile("|".join(map(re.escape, found))) if found else None


_pattern = pattern_of(os.environ)


def look() -> None:
    """The environment has changed."""
    global _pattern
    _pattern = pattern_of(os.environ)


def redacted(text: str) -> str:
    return text if _pattern is None else _pattern.sub(REDACTED, text)
