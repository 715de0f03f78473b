"""Ids: a prefix that says what it names, then 26 characters that sort by the time they were made."""

from __future__ import annotations

from collections.abc import Callable

ALPHABET = "123456789abcdefghijkmnopqrstuvwxyz"  # Trigger.dev's: no 0 and no l, which people mistake for o and 1
TIME_CHARS = 9  # 34^9 ms reach the year 3890
RANDOM_CHARS = 17
_BASE = len(ALPHABET)
_RANDOM_SPACE = _BASE**RANDOM_CHARS
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]  # two characters at a time: ids are made on the hot path


def _encode(value: int, width: int) -> str:
    parts: list[str] = []
    left = width
    while left > 1:
        value, rest = divmod(value, _BASE * _BASE)
        parts.append(_PAIRS[rest])
        left -= 2
    if left:
        parts.append(ALPHABET[value % _BASE])
    return "".join(reversed(parts))


class IdFactory:
    """Makes ids that sort in the order they were made, also within one millisecond and when the clock goes back."""

    def __init__(self, random_bits: Callable[[int], int]) -> None:
        self._random_bits = random_bits
        self._last_ms = 0
        self._time = ""
        self._count = 0

    def new(self, prefix: str, now: int) -> str:
        if now > self._last_ms:
            self._last_ms = now
            self._time = _encode(now, TIME_CHARS)
            # half of the space stays free for the ids that follow in this millisecond
            self._count = self._random_bits(88) % (_RANDOM_SPACE // 2)
        else:
            # a random step keeps neighbours unguessable while their order stays
            self._count += 1 + self._random_bits(32)
        return f"{prefix}_{self._time}{_encode(self._count, RANDOM_CHARS)}"


def first_id(prefix: str, ms: int) -> str:
    """What no id made at or after that time sorts before."""
    return f"{prefix}_{_encode(max(0, ms), TIME_CHARS)}"


def lowest(prefix: str, at: int) -> str:
    """What every id made at this time, in ms, or later is above."""
    return f"{prefix}_{_encode(max(0, at), TIME_CHARS)}"


def made_at(id_: str) -> int:
    """The time, in ms, at which an id was made.

    Raises:
        ValueError: it is not an id of ours.
    """
    body = id_.rpartition("_")[2]
    if len(body) != TIME_CHARS + RANDOM_CHARS:
        raise ValueError(f"{id_!r} is not an Outlast id")
    value = 0
    for char in body[:TIME_CHARS]:
        value = value * _BASE + ALPHABET.index(char)
    return value
