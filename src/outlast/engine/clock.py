"""Time and chance, given to the engine from outside: nothing below this file reads a clock or rolls a die."""

from __future__ import annotations

import os
import random
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """UTC milliseconds; never goes back."""
        ...


class SystemClock:
    """This machine's clock, corrected by the database's offset, and made monotonic."""

    def __init__(self) -> None:
        self.offset_ms = 0
        self._last = 0

    def now(self) -> int:
        self._last = max(self._last, time.time_ns() // 1_000_000 + self.offset_ms)
        return self._last


class Chance:
    """The random numbers of the engine; a seed makes them repeatable."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed if seed is not None else int.from_bytes(os.urandom(16)))
        self.bits = self._random.getrandbits
        self.uniform = self._random.random
