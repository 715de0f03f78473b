"""Rates: so many starts in a period, evenly, with a burst. Pure; a rate's whole state is one time (the generic cell rate algorithm).

In any stretch of one period at most `limit + burst - 1` runs start; with the default burst of 1 that is the limit itself.
"""

from __future__ import annotations

import msgspec


class Rate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`limit` starts in `period_ms`; `per_key`: for each concurrency key by itself."""

    limit: int
    period_ms: int
    burst: int = 1
    per_key: bool = False

    @property
    def interval_us(self) -> int:
        """Between two starts, rounded up: never one more than promised."""
        return -(-self.period_ms * 1_000 // self.limit)


def room(rate: Rate, filled_at: int, now: int) -> int:
    """How many may start now (in ms)."""
    debt = max(0, filled_at - now * 1_000)
    return max(0, (rate.burst * rate.interval_us - debt) // rate.interval_us)


def spent(rate: Rate, filled_at: int, now: int, n: int) -> int:
    """The state after `n` more starts."""
    return max(filled_at, now * 1_000) + n * rate.interval_us


def open_at(rate: Rate, filled_at: int) -> int:
    """When, in ms, the next may start."""
    return -(-(filled_at - (rate.burst - 1) * rate.interval_us) // 1_000)
