"""The journal of a run: what its durable operations gave, so that another execution of the code is given the same."""

from __future__ import annotations

from typing import Literal

import msgspec

EntryStatus = Literal["pending", "ok", "error", "abandoned"]
OpKind = Literal["trigger", "trigger_and_wait", "batch", "batch_and_wait", "wait", "token", "step", "mark", "count", "continue"]
LONG = frozenset({"trigger_and_wait", "batch_and_wait", "wait", "token"})  # the others are answered as soon as they are durable
TIMED_OUT = "outlast/timed-out"  # the value type of an error entry whose wait was over before what it waited for
REFUSED = "outlast/refused"  # of one that the server would not make; its value is a Failure
KEEP = "r/mark:retry_journal!keep"  # in the journal of an attempt whose successes are all kept by the next
TRIED = "retry"  # the label of marks and waits after failed tries: no success, so never kept
MAX_ENTRIES = 10_000
MANY_ENTRIES = 1_000  # from here on the run's log warns: a replay takes longer with each
MAX_JOURNAL_BYTES = 50 * 1024 * 1024  # of results: all of them are read before a replay begins
MAX_VALUE_BYTES = 10 * 1024 * 1024


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One durable operation. `seq` is the order in which completions are delivered, None while it is pending.

    `ref` names what it made: the child run or the batch. `place`: the how-manieth of its scope it is, -1 when a `key=` finds it.
    `due_at`: when its time is over, while it is pending. `version`: of the code that recorded it, told to replays only.
    `began_at` and `ended_at` are for people to look at.
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
    place: int = -1
    due_at: int | None = None
    version: str = ""


def count_key(scope: str, target: str) -> str:
    """The entry that counts what one scope of a run has written to a target: metadata, a stream."""
    return f"{scope}/count:{target}"


def entry_id(run_id: str, journal: int, key: str) -> str:
    return f"{run_id}:{journal}:{key}"
