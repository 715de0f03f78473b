"""What a torture costs its machine."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from tests.torture.cluster import below

TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """The share of all cores that some processes, and all below them, take; the dead that nobody waited for are not seen."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self.begin()

    def begin(self) -> None:
        self._began, self._spent = time.monotonic(), self._seconds()

    def share(self) -> float:
        return (self._seconds() - self._spent) / (time.monotonic() - self._began) / (os.cpu_count() or 1)

    def _seconds(self) -> float:
        return sum(_spent(pid) for root in self._roots for pid in (root, *below(root)))


def _spent(pid: int) -> float:
    """Of a process, and of those that ended below it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS
