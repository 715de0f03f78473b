"""What a worker may be told."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from outlast.model.manifest import Manifest
from outlast.worker.discover import ImportFailure
from outlast.worker.parking import HOT_WAITS, WaitLimits

DRAIN_SECONDS = 60.0
OnDiscovery = Callable[[Manifest, list[ImportFailure]], None]


@dataclass(kw_only=True)
class WorkerOptions:
    """Slots, `hot_waits` (runs that may wait with their coroutines kept) and `memory_mb` are per executor.

    `data`: where results wait that do not fit into memory while the server is away.
    """

    url: str
    key: str
    project: Path
    modules: list[str] | None = None
    executors: int = field(default_factory=lambda: os.cpu_count() or 1)
    async_slots: int = 250
    thread_slots: int = 16
    process_slots: int = 16  # runs with a process of their own, of this worker
    drain_seconds: float = DRAIN_SECONDS
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    data: Path | None = None
    log_format: str | None = None
    promote: bool = True
    cold_after: float | None = None  # seconds of waiting; 0: never. None: as `outlast_config.py` says
    hot_waits: int = HOT_WAITS
    memory_mb: int | None = None
    dotenv: bool = False  # the project's .env files win over what the server sets
    replay_every_wait: bool = False  # keep no coroutine over a wait: nondeterminism shows at once

    @property
    def wait_limits(self) -> WaitLimits:
        return WaitLimits(self.cold_after, self.hot_waits, self.memory_mb)

    def waiting(self) -> list[str]:
        """What executors are told of waiting runs, as arguments of theirs."""
        given = ["--hot-waits", str(self.hot_waits)]
        if self.cold_after is not None:
            given += ["--cold-after", str(self.cold_after)]
        if self.memory_mb is not None:
            given += ["--memory-mb", str(self.memory_mb)]
        return [*given, "--replay-every-wait"] if self.replay_every_wait else given
