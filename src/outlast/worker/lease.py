"""The worker's own view of its lease: by a clock that nobody sets and that runs while the machine sleeps."""

from __future__ import annotations

import time
from typing import Literal

SAFETY_SECONDS = 5.0  # the worker stops trusting its lease this long before it ends
ENDING_SECONDS = 1.0  # and what it runs is to be gone when the server gives it to others


def boottime() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


class Lease:
    """Counted from the moment the server was asked, not from its answer: the server's own count begins in between."""

    def __init__(self) -> None:
        self._until: float | None = None

    def renew(self, lease_ms: int, *, asked_at: float) -> None:
        self._until = asked_at + lease_ms / 1_000

    def drop(self) -> None:
        self._until = None

    def state(self, now: float) -> Literal["none", "sure", "in_doubt", "over"]:
        if self._until is None:
            return "none"
        if now >= self._until - ENDING_SECONDS:
            return "over"
        return "in_doubt" if now >= self._until - SAFETY_SECONDS else "sure"
