"""Stacked bars as SVG rectangles, drawn here so that a page shows them at once and without scripts."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outlast.model import ids
from outlast.server.dashboard.look import STATUSES, iso
from outlast.store.charts import Counts

SPANS = (3_600_000, 6 * 3_600_000, 86_400_000, 7 * 86_400_000, 30 * 86_400_000)
TONES = ("ok", "run", "mute", "bad")  # from the bottom; waiting and parked runs count as running and idle
KEPT_FOR = 50  # a chart is drawn again after this many times what it cost, and after a second at least


@dataclass(frozen=True)
class Bar:
    """One bar: rectangles as (y, height, tone), and what they say."""

    x: float
    start: int
    end: int
    parts: list[tuple[float, float, str]]
    counts: dict[str, int]
    title: str


@dataclass(frozen=True)
class Chart:
    bars: list[Bar]
    start: int
    end: int
    total: int
    failed: int
    width: float
    height: int = 40

    @property
    def viewbox(self) -> str:
        return f"0 0 {len(self.bars) * self.width:g} {self.height}"


def span_of(oldest: str | None, now: int, longest: int = 7 * 86_400_000) -> int:
    """The shortest span that shows all there is."""
    age = now - ids.made_at(oldest) if oldest else 0
    return next((span for span in SPANS if span >= age or span >= longest), longest)


def stacked(counts: Counts, *, start: int, width: int, buckets: int, height: int = 40, bar: float = 20) -> Chart:
    sums: list[dict[str, int]] = [dict.fromkeys(TONES, 0) for _ in range(buckets)]
    for (bucket, status), n in counts.items():
        sums[min(max(bucket, 0), buckets - 1)][_tone(status)] += n
    top = max(1, *(sum(x.values()) for x in sums))
    bars = [_bar(i, x, start + i * width, width, top, height, bar) for i, x in enumerate(sums)]
    total, failed = sum(counts.values()), sum(x["bad"] for x in sums)
    return Chart(bars, start, start + buckets * width, total, failed, bar, height)


def _tone(status: str) -> str:
    tone = STATUSES[status].tone
    return {"wait": "run", "warn": "mute"}.get(tone, tone)


def _bar(i: int, sums: Mapping[str, int], start: int, width: int, top: int, height: int, bar: float) -> Bar:
    y, parts = float(height), list[tuple[float, float, str]]()
    for tone in TONES:
        if sums[tone]:
            h = max(1.0, round(sums[tone] / top * height, 1))  # one failure among thousands is still seen
            y = max(0.0, y - h)
            parts.append((round(y, 1), h, tone))
    words = {"ok": "completed", "run": "running", "mute": "queued or stopped", "bad": "failed"}
    said = ", ".join(f"{n} {words[tone]}" for tone, n in sums.items() if n) or "none"
    return Bar(i * bar, start, start + width, parts, dict(sums), f"{iso(start)}: {said}")


@dataclass
class Shelf:
    """What was counted lately: counting 100,000 runs for every viewer and second would slow the runs themselves."""

    _kept: dict[Hashable, tuple[float, Any]] = field(default_factory=dict[Hashable, "tuple[float, Any]"])

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Any]], *, kept_if: Callable[[Any], bool] = lambda _: True) -> Any:
        found = self._kept.get(key)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        began = time.monotonic()
        value = await make()
        ended = time.monotonic()
        if not kept_if(value):
            return value
        if len(self._kept) > 500:
            self._kept.clear()
        self._kept[key] = (ended + max(1.0, (ended - began) * KEPT_FOR), value)
        return value
