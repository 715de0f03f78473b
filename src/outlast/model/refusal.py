"""A refusal: an expected "no", as a value. Nothing was changed."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Code = Literal[
    "not_found",
    "stale_epoch",
    "run_final",
    "run_cancelled",
    "result_conflict",
    "not_delayed",
    "stopping",
    "newer",
    "not_claimed",
    "queue_full",
    "unknown_version",
    "max_depth",
    "task_not_found",
    "session_lost",
    "invalid",
    "already_exists",
    "not_overridden",
    "above_maximum",
    "key_mismatch",
    "token_used",
    "batch_sealed",
    "batch_aborted",
    "bad_index",
    "limit_exceeded",
    "too_many",
    "declarative",
    "too_large",
    "deadlock",
]


class Refusal(msgspec.Struct, frozen=True):
    """`code` is for programs, `message` says what, which one, and what to do."""

    code: Code
    message: str
    data: dict[str, Any] = {}
