"""The machine's memory."""

from __future__ import annotations

import contextlib


def memory() -> tuple[int, int]:
    """Bytes that programs can still have, and all there are; zeros where the system does not say."""
    found = {"MemAvailable:": 0, "MemTotal:": 0}
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            name, value, *_ = line.split()
            if name in found:
                found[name] = int(value) * 1_024
    return found["MemAvailable:"], found["MemTotal:"]
