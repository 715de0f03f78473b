"""What a flush knows of streams, and writes of them."""

from __future__ import annotations

import msgspec

from outlast.store import streams
from outlast.store.database import Connection
from outlast.store.streams import Chunk, Id, Stream


class StreamRows(msgspec.Struct):
    """The streams a flush has looked at, and what it writes of them."""

    known: dict[Id, Stream | None] = {}
    writers: dict[Id, dict[str, int]] = {}
    born: set[Id] = set()
    changed: set[Id] = set()
    rows: list[streams.Row] = []
    new: dict[Id, list[Chunk]] = {}  # of this flush, by stream
    moved: dict[tuple[str, str, str], int] = {}  # writers

    def write(self, tx: Connection) -> None:
        streams.insert(tx, [s for id_ in sorted(self.born) if (s := self.known[id_]) is not None])
        streams.save(tx, [s for id_ in sorted(self.changed - self.born) if (s := self.known[id_]) is not None])
        streams.add(tx, self.rows)
        streams.save_writers(tx, [(*key, last) for key, last in sorted(self.moved.items())])
        self.born, self.changed, self.rows, self.moved = set(), set(), [], {}
