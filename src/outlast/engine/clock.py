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

    def wall(self) -> int:
        """UTC milliseconds as all servers have them: for what any of them may judge, as leases. Goes back when the clock is set back."""
        ...


class SystemClock:
    """This machine's clock, corrected by the database's offset, and made monotonic.

    Set back, it goes on a tenth slower than time until the clock has caught up: standing still would hold up every timer for
    as long as the jump was.
    """

    def __init__(self) -> None:
        self.offset_ms = 0
        self._last = 0  # nanoseconds
        self._monotonic = time.monotonic_ns()

    def now(self) -> int:
        monotonic = time.monotonic_ns()
        passed, self._monotonic = monotonic - self._monotonic, monotonic
        self._last = max(self._last + passed * 9 // 10, time.time_ns() + self.offset_ms * 1_000_000)
        return self._last // 1_000_000

    def wall(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms


class Chance:
    """The random numbers of the engine; a seed makes them repeatable."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed if seed is not None else int.from_bytes(os.urandom(16)))
        self.bits = self._random.getrandbits
        self.uniform = self._random.random
