"""The journal of a run: what its durable operations gave, so that another execution of the code is given the same."""

from __future__ import annotations

from typing import Literal

import msgspec

EntryStatus = Literal["pending", "ok", "error", "abandoned"]
OpKind = Literal["trigger", "trigger_and_wait", "batch", "batch_and_wait", "wait", "token", "step", "mark"]
MAX_ENTRIES = 10_000
MAX_VALUE_BYTES = 10 * 1024 * 1024


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One durable operation. `seq` is the order in which completions are delivered, None while it is pending.

    `ref` names what it made: the child run, the batch, or the time a wait ends. The two times are for people to look at.
    """

    key: str
    kind: OpKind
    label: str
    fingerprint: str
    status: EntryStatus
    seq: int | None = None
    value: str | None = None
    value_type: str | None = None
    ref: str | None = None
    location: str = ""
    began_at: int | None = None
    ended_at: int | None = None


def entry_id(run_id: str, journal: int, key: str) -> str:
    return f"{run_id}:{journal}:{key}"
