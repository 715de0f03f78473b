"""The rows a flush needs, collected from its operations, so that each is loaded and locked once and in one order."""

from __future__ import annotations

import msgspec

from outlast.store.gates import DebounceKey, Gate
from outlast.store.idempotency import Key
from outlast.store.lanes import LaneKey


class Rows(msgspec.Struct):
    """What to lock (`runs`, `batches`, `keys`, `sessions`, `lanes` by key) and what only to read."""

    sessions: set[str] = set()
    runs: set[str] = set()
    light: set[str] = set()  # runs that keep their slot or place: their lanes are not needed
    batches: set[str] = set()
    keys: set[Key] = set()
    lanes: dict[LaneKey, int] = {}  # to the environment
    queue_lanes: set[int] = set()  # all lanes of these queues
    requests: set[str] = set()
    batch_items: set[tuple[str, int]] = set()
    requeued: set[str] = set()  # runs that may go back to their queue
    data: set[str] = set()
    hashes: set[str] = set()  # result hashes of these runs
    entries: set[str] = set()  # of journals, by id
    tokens: set[str] = set()
    schedules: set[str] = set()
    gates: set[Gate] = set()
    debounced: set[DebounceKey] = set()

    def add(self, other: Rows) -> bool:
        """Whether any of them is new."""
        before = len(self)
        for name in self.__struct_fields__:
            getattr(self, name).update(getattr(other, name))
        return len(self) > before

    def __len__(self) -> int:
        return sum(len(getattr(self, name)) for name in self.__struct_fields__)


class NeedsLock(Exception):
    """An operation found that it needs more rows: roll back and run the flush again with them."""

    def __init__(self, rows: Rows) -> None:
        super().__init__("more rows are needed")
        self.rows = rows
