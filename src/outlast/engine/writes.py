"""What a flush will write."""

from __future__ import annotations

from dataclasses import dataclass, field

from outlast.model.change import Finish
from outlast.model.journal import Entry
from outlast.model.messages import LogLine
from outlast.model.run import RunData, RunOptions
from outlast.store.journal import Written


@dataclass(slots=True)
class Writes:
    """What the flush will write, each row once, batched by kind."""

    born: dict[str, RunData] = field(default_factory=dict[str, RunData])
    changed: set[str] = field(default_factory=set[str])
    results: dict[str, Finish] = field(default_factory=dict[str, Finish])
    options: dict[str, RunOptions] = field(default_factory=dict[str, RunOptions])
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    tags: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    failures: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    parked: dict[str, tuple[int, str, str, str | None]] = field(default_factory=dict[str, tuple[int, str, str, str | None]])
    unparked: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    entries: dict[str, tuple[int, int, str]] = field(default_factory=dict[str, tuple[int, int, str]])
    gone_entries: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    slots: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    gone_slots: list[tuple[str]] = field(default_factory=list[tuple[str]])
    timers: set[tuple[int, str, str]] = field(default_factory=set[tuple[int, str, str]])
    gone_timers: set[tuple[int, str, str]] = field(default_factory=set[tuple[int, str, str]])
    work: list[tuple[str, str, str, int]] = field(default_factory=list[tuple[str, str, str, int]])
    gone_work: list[tuple[str]] = field(default_factory=list[tuple[str]])
    keys: list[tuple[int, str, str, str, int, str | None]] = field(default_factory=list[tuple[int, str, str, str, int, str | None]])
    requests: dict[str, tuple[str, str | None, int]] = field(default_factory=dict[str, tuple[str, str | None, int]])
    batches: set[str] = field(default_factory=set[str])
    born_batches: set[str] = field(default_factory=set[str])
    batch_items: list[tuple[str, int, str | None, str, str | None]] = field(
        default_factory=list[tuple[str, int, str | None, str, str | None]]
    )
    moved_items: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    sessions: set[str] = field(default_factory=set[str])
    lanes: set[int] = field(default_factory=set[int])
    bases: set[int] = field(default_factory=set[int])
    logs: list[LogLine] = field(default_factory=list[LogLine])
    born_entries: dict[str, Written] = field(default_factory=dict[str, Written])
    journal: dict[str, Entry] = field(default_factory=dict[str, Entry])
    ended_journals: set[str] = field(default_factory=set[str])  # runs whose pending waits nobody waits for any more
    waiters: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    gone_edges: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    gone_waiters: list[str] = field(default_factory=list[str])
    tokens: set[str] = field(default_factory=set[str])
    born_tokens: set[str] = field(default_factory=set[str])
