"""The result of an attempt, as a worker reports it."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from outlast.model.failure import Failure, truncated


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    epoch: int
    attempt: int
    outcome: Literal["ok", "failed", "retry", "cancelled", "timed_out", "crashed", "lost", "parked"]
    output: str | None = None
    output_type: str = "application/json"
    error: str | None = None  # a Failure as JSON
    error_name: str = ""
    retry_delay_ms: int = 0
    usage_ms: int = 0
    cpu_ms: int = 0
    peak_memory: int = 0

    @property
    def hash(self) -> str:
        """Tells an exact repeat from another result: the same attempt with the same words."""
        text = f"{self.epoch}\x1f{self.attempt}\x1f{self.outcome}\x1f{self.output}\x1f{self.error}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def encode_failure(failure: Failure) -> str:
    return msgspec.json.encode(truncated(failure)).decode()
