"""I14: triggers of a debounced key make one run at a time, with the data of the last of them that was acknowledged, or of the first."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from outlast.store.database import Connection


@dataclass(frozen=True, slots=True)
class Typed:
    """An acknowledged trigger; it took effect between the two times."""

    name: str
    run_id: str
    asked_at: int
    answered_at: int


@dataclass(slots=True)
class Key:
    mode: str
    typed: list[Typed] = field(default_factory=list[Typed])


class Debounced:
    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._unanswered: set[str] = set()

    def asks(self, name: str) -> None:
        self._unanswered.add(name)

    def answered(self, options: dict[str, Any], typed: Typed) -> None:
        self._unanswered.discard(typed.name)
        self._keys.setdefault(options["key"], Key(options["mode"])).typed.append(typed)

    def wrong(self, tx: Connection, clock_ms: int) -> Iterator[str]:
        """`clock_ms`: by how much two times may be wrong. Nothing can be said of times of a clock that was set."""
        for name, key in self._keys.items():
            by_run: dict[str, list[Typed]] = defaultdict(list)
            for typed in key.typed:
                by_run[typed.run_id].append(typed)
            rows = tx.all(
                "SELECT r.id, r.created_at, r.queued_at, r.attempt, d.payload FROM runs r JOIN run_data d ON d.run_id = r.id"
                " WHERE r.id {in:ids} ORDER BY r.created_at",
                ids=sorted(by_run),
            )
            for run_id, _, _, _, payload in rows:
                said = json.loads(payload)
                if not self._may_be(f"{said['op']}/{said['typed']}", by_run[run_id], key.mode):
                    yield f"I14: {run_id} of key {name} ({key.mode}) has {payload} of {[typed.name for typed in by_run[run_id]]}"
            for (one, _, queued_at, attempt, _), (other, created_at, *_) in pairwise(rows):
                if attempt == 1 and created_at + clock_ms < queued_at:  # one that is tried again is queued again
                    yield f"I14: key {name} made {other} {queued_at - created_at} ms before {one} was due"

    def _may_be(self, name: str, typed: list[Typed], mode: str) -> bool:
        mine = next((t for t in typed if t.name == name), None)
        if mine is None:
            return name in self._unanswered
        if mode == "trailing":
            return all(other.asked_at <= mine.answered_at for other in typed)
        return all(other.answered_at >= mine.asked_at for other in typed)
