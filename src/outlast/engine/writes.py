"""What a flush will write."""

from __future__ import annotations

import msgspec

from outlast.model.change import Finish
from outlast.model.journal import Entry
from outlast.model.messages import LogLine
from outlast.model.run import RunData, RunOptions
from outlast.store.journal import Written


class Writes(msgspec.Struct):
    """What the flush will write, each row once, batched by kind."""

    born: dict[str, RunData] = {}
    changed: set[str] = set()
    results: dict[str, Finish] = {}
    options: dict[str, RunOptions] = {}
    metadata: dict[str, str] = {}
    tags: list[tuple[int, str, str]] = []
    failures: list[tuple[int, str]] = []
    parked: dict[str, tuple[int, str, str, str | None]] = {}
    unparked: list[tuple[int, str, str]] = []
    entries: dict[str, tuple[int, int, str]] = {}
    gone_entries: list[tuple[int, int, str]] = []
    slots: list[tuple[object, ...]] = []
    gone_slots: list[tuple[str]] = []
    timers: set[tuple[int, str, str]] = set()
    gone_timers: set[tuple[int, str, str]] = set()
    work: list[tuple[str, str, str, int]] = []
    gone_work: list[tuple[str]] = []
    keys: list[tuple[int, str, str, str, int, str | None]] = []
    requests: dict[str, tuple[str, str | None, int]] = {}
    batches: set[str] = set()
    born_batches: set[str] = set()
    batch_items: list[tuple[str, int, str | None, str, str | None]] = []
    moved_items: list[tuple[str, str, str]] = []
    sessions: set[str] = set()
    lanes: set[int] = set()
    bases: set[int] = set()
    logs: list[LogLine] = []
    born_entries: dict[str, Written] = {}
    journal: dict[str, Entry] = {}
    ended_journals: set[str] = set()  # runs whose pending waits nobody waits for any more
    waiters: list[tuple[str, str, str]] = []
    gone_edges: list[tuple[str, str, str]] = []
    gone_waiters: list[str] = []
    tokens: set[str] = set()
    born_tokens: set[str] = set()
