"""How often a failed attempt is tried again, and after how long."""

from __future__ import annotations

import math

import msgspec

from outlast.model.limits import MAX_ATTEMPTS, MAX_FUTURE_MS


class Retry(msgspec.Struct, frozen=True, omit_defaults=False):
    """The retry policy of a task: how many attempts, and the pauses between them, in seconds.

    After failed attempt *n* the pause is `min(max_timeout, R * min_timeout * factor ** (n - 1))` with `R` uniform in
    [1, 2) when `randomize`, else 1. `max_attempts` counts the first attempt too; 0 and 1 both mean no retry.

    Raises:
        ValueError: a number that makes no sense; the message names the field.

    Example:
        >>> Retry(max_attempts=5, min_timeout=0.5)
        Retry(max_attempts=5, factor=2.0, min_timeout=0.5, max_timeout=60.0, randomize=True, out_of_memory=None)
    """

    max_attempts: int = 3
    factor: float = 2.0
    min_timeout: float = 1.0
    max_timeout: float = 60.0
    randomize: bool = True
    out_of_memory: str | None = None

    def __post_init__(self) -> None:
        if self.out_of_memory is not None:
            raise ValueError("Retry.out_of_memory is not built yet: leave it out, and give the task a larger `machine=`")
        if not 0 <= self.max_attempts <= MAX_ATTEMPTS:
            raise ValueError(f"Retry.max_attempts must be 0 to {MAX_ATTEMPTS}, not {self.max_attempts}")
        for name in ("factor", "min_timeout", "max_timeout"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (name == "factor" and value == 0):
                raise ValueError(f"Retry.{name} must be a positive number, not {value}")
        if self.min_timeout > self.max_timeout:
            raise ValueError(f"Retry.min_timeout ({self.min_timeout}) is above max_timeout ({self.max_timeout})")


def backoff_ms(policy: Retry, attempt: int, random: float) -> int | None:
    """The pause after failed attempt `attempt` (from 1), or None when it was the last; `random` is uniform in [0, 1)."""
    if attempt >= min(policy.max_attempts, MAX_ATTEMPTS):
        return None
    spread = 1.0 + random if policy.randomize else 1.0
    ceiling = min(policy.max_timeout * 1_000, MAX_FUTURE_MS)
    if policy.factor == 1 or policy.min_timeout == 0:
        pause = spread * policy.min_timeout * 1_000
    else:
        # factor ** n overflows a float from n = 1024 on: compare logarithms instead of computing it
        exponent = (attempt - 1) * math.log(policy.factor) + math.log(spread * policy.min_timeout * 1_000)
        pause = math.exp(exponent) if exponent < math.log(ceiling + 1) else ceiling
    return round(min(ceiling, pause))
