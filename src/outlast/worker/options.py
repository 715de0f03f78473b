"""What a worker may be told."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from outlast.model.manifest import Manifest
from outlast.worker.discover import ImportFailure

DRAIN_SECONDS = 60.0
OnDiscovery = Callable[[Manifest, list[ImportFailure]], None]


@dataclass(kw_only=True)
class WorkerOptions:
    """Slots are per executor. `data`: where results wait that do not fit into memory while the server is away."""

    url: str
    key: str
    project: Path
    modules: list[str] | None = None
    executors: int = field(default_factory=lambda: os.cpu_count() or 1)
    async_slots: int = 250
    thread_slots: int = 16
    drain_seconds: float = DRAIN_SECONDS
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    data: Path | None = None
    log_format: str | None = None
    promote: bool = True
    replay_every_wait: bool = False  # keep no coroutine over a wait: nondeterminism shows at once
