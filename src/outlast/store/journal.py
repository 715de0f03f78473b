"""The journals of runs, and who else waits for a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter

import msgspec

from outlast.model.journal import KEEP, TRIED, Entry, entry_id
from outlast.store import recordset
from outlast.store.database import Connection, Later

_FIELDS = tuple(field.name for field in msgspec.structs.fields(Entry) if field.name != "version")
_SELECT = ", ".join(f"j.{name}" for name in _FIELDS)
_MUTABLE = ("status", "seq", "value", "value_type", "ref", "due_at", "ended_at")
_all_values = attrgetter(*_FIELDS)
_mutable_values = attrgetter(*_MUTABLE)
Written = tuple[str, int, int, str, Entry]  # run, journal, epoch, version, entry


def insert(tx: Connection, rows: Sequence[Written]) -> None:
    tx.insert(
        "journal",
        ("id", "run_id", "journal", "epoch", "version", *_FIELDS),
        [(entry_id(w[0], w[1], w[4].key), *w[:4], *_all_values(w[4])) for w in rows],
    )


_ROW = (
    "n BIGINT, id TEXT, run_id TEXT, journal BIGINT, epoch BIGINT, key TEXT, kind TEXT, label TEXT, fingerprint TEXT,"
    " status TEXT, value TEXT, value_type TEXT, ref TEXT, location TEXT, began_at BIGINT, ended_at BIGINT,"
    " place BIGINT"
)
_ROW_NAMES = [part.split()[0] for part in _ROW.split(", ")]
# runs are held in the order of their ids, as everywhere. What is known already, or fenced, is left out: its row does not come back
_APPEND = (
    f"WITH x AS MATERIALIZED (SELECT x.* FROM json_to_recordset(CAST(:rows AS json)) AS x({_ROW})"
    " WHERE NOT EXISTS (SELECT 1 FROM journal j WHERE j.id = x.id)),"
    " held AS MATERIALIZED (SELECT r.id FROM runs r WHERE r.id IN (SELECT x.run_id FROM x) ORDER BY r.id FOR NO KEY UPDATE),"
    " fenced AS (UPDATE runs r SET next_seq = r.next_seq + g.n FROM"
    " (SELECT x.run_id, x.journal, x.epoch, count(*) AS n FROM held JOIN x ON x.run_id = held.id GROUP BY 1, 2, 3) g"
    " WHERE r.id = g.run_id AND r.epoch = g.epoch AND r.journal = g.journal AND r.execution IN ('EXECUTING', 'SUSPENDED')"
    " RETURNING r.id, r.journal, r.epoch, r.version, r.next_seq - g.n AS first)"
    " INSERT INTO journal (id, run_id, journal, epoch, key, kind, label, fingerprint, status, seq, value, value_type, ref, location,"
    " began_at, ended_at, place, version)"
    " SELECT x.id, x.run_id, x.journal, x.epoch, x.key, x.kind, x.label, x.fingerprint, x.status,"
    " f.first + row_number() OVER (PARTITION BY x.run_id ORDER BY x.n) - 1, x.value, x.value_type, x.ref, x.location,"
    " x.began_at, x.ended_at, x.place, COALESCE(f.version, '')"
    " FROM x JOIN fenced f ON f.id = x.run_id AND f.journal = x.journal AND f.epoch = x.epoch RETURNING id, seq"
)


# the same for one entry, where a statement costs no round trip
_COUNT = (
    "UPDATE runs SET next_seq = next_seq + 1 WHERE id = :run AND epoch = :epoch AND journal = :journal"
    " AND execution IN ('EXECUTING', 'SUSPENDED') AND NOT EXISTS (SELECT 1 FROM journal j WHERE j.id = :id)"
    " RETURNING next_seq - 1, version"
)

_UNNUMBERED = [name for name in _FIELDS if name != "seq"]
_APPEND_ONE = (
    f"WITH fenced AS ({_COUNT.replace('next_seq - 1', 'next_seq - 1 AS seq')})"
    f" INSERT INTO journal (id, run_id, journal, epoch, version, seq, {', '.join(_UNNUMBERED)})"
    f" SELECT :id, :run, :journal, :epoch, COALESCE(f.version, ''), f.seq, {', '.join(':' + name for name in _UNNUMBERED)} FROM fenced f"
    " RETURNING id, seq"
)


def append(tx: Connection, rows: Sequence[tuple[str, int, int, Entry]]) -> Later[dict[str, int]]:
    """Fence and insert finished entries, on PostgreSQL in one statement: the seq of each that was written, by id.

    A row is run, journal, epoch, entry.
    """
    if not tx.is_postgres:
        return _append_each(tx, rows)
    return _append_one(tx, *rows[0]) if len(rows) == 1 else _append_at_once(tx, rows)


def _append_one(tx: Connection, run_id: str, number: int, epoch: int, entry: Entry) -> Later[dict[str, int]]:
    id_ = entry_id(run_id, number, entry.key)
    fields = dict(zip(_FIELDS, _all_values(entry), strict=True))
    del fields["seq"]
    answer = tx.ask(_APPEND_ONE, run=run_id, epoch=epoch, journal=number, id=id_, **fields)
    return lambda: dict(answer())


def _append_each(tx: Connection, rows: Sequence[tuple[str, int, int, Entry]]) -> Later[dict[str, int]]:
    seqs: dict[str, int] = {}
    written: list[Written] = []
    for run_id, number, epoch, entry in rows:
        id_ = entry_id(run_id, number, entry.key)
        for seq, version in tx.all(_COUNT, run=run_id, epoch=epoch, journal=number, id=id_):
            seqs[id_] = seq
            written.append((run_id, number, epoch, version or "", msgspec.structs.replace(entry, seq=seq)))
    insert(tx, written)
    return lambda: seqs


def _append_at_once(tx: Connection, rows: Sequence[tuple[str, int, int, Entry]]) -> Later[dict[str, int]]:
    listed = [
        (
            n, entry_id(run_id, journal, e.key), run_id, journal, epoch, e.key, e.kind, e.label, e.fingerprint, e.status,
            e.value, e.value_type, e.ref, e.location, e.began_at, e.ended_at, e.place,
        )
        for n, (run_id, journal, epoch, e) in enumerate(rows)
    ]  # fmt: skip
    answer = tx.ask(_APPEND, rows=recordset.encode(_ROW_NAMES, listed))
    return lambda: dict(answer())


def save(tx: Connection, entries: Mapping[str, Entry]) -> None:
    """By id: how they ended."""
    rows = [(*_mutable_values(e), id_) for id_, e in sorted(entries.items())]
    tx.update("journal", _MUTABLE, ["id"], rows)


def find(tx: Connection, ids: Collection[str]) -> Later[dict[str, Entry]]:
    if not ids:
        return dict
    rows = tx.ask(f"SELECT j.id, {_SELECT} FROM journal j WHERE j.id {{in:ids}}", ids=sorted(ids))
    return lambda: {row[0]: Entry(*row[1:]) for row in rows()}


def whole(tx: Connection, run_ids: Collection[str]) -> Later[dict[str, list[Entry]]]:
    """All a new execution needs: the entries of the current journal, and what earlier ones leave to it, newest last.

    That is the steps that went well; or all that did, where a journal says so (`KEEP`).
    """
    # a step of an earlier journal has no place in the order of this one
    fields = _SELECT.replace("j.seq", "CASE WHEN j.journal = r.journal THEN j.seq END")
    if not run_ids:
        return dict
    rows = tx.ask(
        f"SELECT j.run_id, {fields}, j.version FROM runs r JOIN journal j ON j.run_id = r.id WHERE r.id {{in:ids}}"
        " AND (j.journal = r.journal OR (j.journal < r.journal AND j.status = 'ok' AND (j.kind = 'step' OR"
        " j.kind <> 'count' AND j.key <> :keep AND NOT (j.label = :tried AND j.kind IN ('mark', 'wait')) AND EXISTS"
        " (SELECT 1 FROM journal k WHERE k.id = r.id || ':' || j.journal || ':' || :keep))))"
        " ORDER BY j.run_id, j.journal, j.seq",
        ids=sorted(run_ids), keep=KEEP, tried=TRIED,
    )  # fmt: skip
    return lambda: _by_run(rows(), run_ids)


def unseen(tx: Connection, run_ids: Collection[str]) -> Later[dict[str, list[Entry]]]:
    """What completed since the run blocked."""
    if not run_ids:
        return dict
    rows = tx.ask(
        f"SELECT j.run_id, {_SELECT} FROM runs r JOIN journal j ON j.run_id = r.id AND j.journal = r.journal AND j.seq >= r.seen_seq"
        " WHERE r.id {in:ids} ORDER BY j.run_id, j.seq",
        ids=sorted(run_ids),
    )
    return lambda: _by_run(rows(), run_ids)


def since(tx: Connection, run_id: str, journal: int, seq: int) -> list[Entry]:
    rows = tx.all(
        f"SELECT {_SELECT} FROM journal j WHERE j.run_id = :run AND j.journal = :journal AND j.seq >= :seq ORDER BY j.seq",
        run=run_id,
        journal=journal,
        seq=seq,
    )
    return [Entry(*row) for row in rows]


def _by_run(rows: Sequence[tuple[object, ...]], run_ids: Collection[str]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {run_id: [] for run_id in run_ids}
    for row in rows:
        found[str(row[0])].append(Entry(*row[1:]))  # type: ignore[arg-type]
    return found


def add_waiters(tx: Connection, rows: Sequence[tuple[str, str, str]]) -> None:
    """(what is waited for, run, key in its journal)"""
    tx.insert("edges", ("waitpoint_id", "run_id", "journal_key"), rows, or_ignore=True)


def waiters(tx: Connection, ids: Collection[str]) -> Later[list[tuple[str, str]]]:
    """(run, journal key) of those who wait for one of these."""
    if not ids:
        return list
    rows = tx.ask("SELECT run_id, journal_key FROM edges WHERE waitpoint_id {in:ids} ORDER BY run_id", ids=sorted(ids))
    return lambda: [(row[0], row[1]) for row in rows()]


def remove_edges(tx: Connection, rows: Sequence[tuple[str, str, str]]) -> None:
    """(what is waited for, run, key in its journal)"""
    tx.delete("edges", ["waitpoint_id", "run_id", "journal_key"], rows)


def remove_waiters(tx: Connection, ids: Sequence[str]) -> None:
    tx.delete("edges", ["waitpoint_id"], [(id_,) for id_ in ids])
