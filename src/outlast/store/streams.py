"""Streams of runs: records in order, a row for each write; and how far each writer has come."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from outlast.store.database import Connection

ROWS = 8  # in one read; each holds up to 64 KB, or one large record
TABLES = ("streams", "stream_records", "stream_writers")
Id = tuple[str, str]  # run, key
Chunk = tuple[str | None, str]  # a part's own id, and its JSON
Row = tuple[str, str, int, int, int, str]
_encode = msgspec.json.encode
_chunks = msgspec.json.Decoder(list[Chunk]).decode


class Stream(msgspec.Struct, kw_only=True):
    """`taken`: how many of its records the waits of this `journal` of the run have been given."""

    run_id: str
    key: str
    env_id: int
    next_seq: int = 0
    bytes: int = 0
    journal: int = 0
    taken: int = 0
    created_at: int


class Record(msgspec.Struct, frozen=True):
    seq: int
    at: int
    part: str | None
    body: str


_NAMES = tuple(field.name for field in msgspec.structs.fields(Stream))
_SELECT = f"SELECT {', '.join(_NAMES)} FROM streams WHERE run_id = :run_id AND key = :key"


def find(tx: Connection, id: Id) -> Stream | None:
    rows = tx.all(_SELECT, run_id=id[0], key=id[1])
    return Stream(**dict(zip(_NAMES, rows[0], strict=True))) if rows else None


def keys(tx: Connection, run_id: str) -> list[str]:
    """Of all streams of a run."""
    return [row[0] for row in tx.all("SELECT key FROM streams WHERE run_id = :run_id ORDER BY created_at, key LIMIT 100", run_id=run_id)]


def insert(tx: Connection, streams: Collection[Stream]) -> None:
    tx.insert("streams", _NAMES, [msgspec.structs.astuple(s) for s in streams])


def save(tx: Connection, streams: Collection[Stream]) -> None:
    rows = [(s.next_seq, s.bytes, s.journal, s.taken, s.run_id, s.key) for s in streams]
    tx.update("streams", ("next_seq", "bytes", "journal", "taken"), ("run_id", "key"), rows)


def row(id: Id, seq: int, at: int, chunks: Sequence[Chunk]) -> Row:
    return (*id, seq, len(chunks), at, _encode(chunks).decode())


def add(tx: Connection, rows: Sequence[Row]) -> None:
    tx.insert("stream_records", ("run_id", "key", "seq", "n", "at", "data"), rows)


def writers(tx: Connection, id: Id, names: Collection[str]) -> dict[str, int]:
    """The last index of each."""
    if not names:
        return {}
    rows = tx.all(
        "SELECT writer, last FROM stream_writers WHERE run_id = :run_id AND key = :key AND writer {in:names}",
        run_id=id[0], key=id[1], names=sorted(names),
    )  # fmt: skip
    return {row[0]: row[1] for row in rows}


def save_writers(tx: Connection, rows: Sequence[tuple[str, str, str, int]]) -> None:
    """(run, key, writer, last)"""
    tx.many(
        "INSERT INTO stream_writers (run_id, key, writer, last) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run_id, key, writer) DO UPDATE SET last = excluded.last",
        rows,
    )


def read(tx: Connection, id: Id, start: int, rows: int = ROWS) -> list[Record]:
    """Records from `start` on, as many as a few rows hold."""
    found = tx.all(
        "SELECT seq, at, data FROM stream_records WHERE run_id = :run_id AND key = :key AND seq >="
        " coalesce((SELECT max(seq) FROM stream_records WHERE run_id = :run_id AND key = :key AND seq <= :start), 0)"
        " ORDER BY seq LIMIT :rows",
        run_id=id[0], key=id[1], start=start, rows=rows,
    )  # fmt: skip
    records = [Record(seq + i, at, part, body) for seq, at, data in found for i, (part, body) in enumerate(_chunks(data))]
    return [record for record in records if record.seq >= start]


def prune(tx: Connection, before: int, limit: int) -> int:
    """Delete streams of runs that were over before that time; a bounded number, oldest first."""
    ids = tx.all(
        "SELECT s.run_id, s.key FROM streams s LEFT JOIN runs r ON r.id = s.run_id"
        " WHERE s.created_at < :before AND (r.id IS NULL OR r.finished_at < :before) ORDER BY s.created_at LIMIT :limit",
        before=before, limit=limit,
    )  # fmt: skip
    for table in TABLES:
        tx.delete(table, ("run_id", "key"), ids)
    return len(ids)
