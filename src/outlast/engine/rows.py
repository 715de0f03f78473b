"""The rows a flush needs, collected from its operations, so that each is loaded and locked once and in one order."""

from __future__ import annotations

from dataclasses import dataclass, field

from outlast.store.gates import DebounceKey, Gate
from outlast.store.idempotency import Key
from outlast.store.lanes import LaneKey


@dataclass(slots=True)
class Rows:
    """What to lock (`runs`, `batches`, `keys`, `sessions`, `lanes` by key) and what only to read."""

    sessions: set[str] = field(default_factory=set[str])
    runs: set[str] = field(default_factory=set[str])
    light: set[str] = field(default_factory=set[str])  # runs that keep their slot or place: their lanes are not needed
    batches: set[str] = field(default_factory=set[str])
    keys: set[Key] = field(default_factory=set[Key])
    lanes: dict[LaneKey, int] = field(default_factory=dict[LaneKey, int])  # to the environment
    queue_lanes: set[int] = field(default_factory=set[int])  # all lanes of these queues
    requests: set[str] = field(default_factory=set[str])
    batch_items: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    requeued: set[str] = field(default_factory=set[str])  # runs that may go back to their queue
    data: set[str] = field(default_factory=set[str])
    hashes: set[str] = field(default_factory=set[str])  # result hashes of these runs
    entries: set[str] = field(default_factory=set[str])  # of journals, by id
    tokens: set[str] = field(default_factory=set[str])
    schedules: set[str] = field(default_factory=set[str])
    gates: set[Gate] = field(default_factory=set[Gate])
    debounced: set[DebounceKey] = field(default_factory=set[DebounceKey])

    def add(self, other: Rows) -> None:
        for name in self.__slots__:
            getattr(self, name).update(getattr(other, name))


class NeedsLock(Exception):
    """An operation found that it needs more rows: roll back and run the flush again with them."""

    def __init__(self, rows: Rows) -> None:
        super().__init__("more rows are needed")
        self.rows = rows
