"""What the attempts of an executor share."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from outlast.config import Config


@dataclass(slots=True)
class Setting:
    """What attempts share in an executor."""

    config: Config
    is_dev: bool
    threads: Executor
    memory_bytes: int = 0  # what the process of this run may have; 0: no limit
    alone: bool = False  # the process is for one run
