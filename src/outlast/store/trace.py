"""What a run did, for its page: every journal, the lines it logged, the runs it made. Bounded."""

from __future__ import annotations

import msgspec

from outlast.model.journal import Entry
from outlast.store.database import Connection
from outlast.store.search import literal

_ENTRY = tuple(field.name for field in msgspec.structs.fields(Entry))


class Child(msgspec.Struct, frozen=True):
    id: str
    task: str
    status: str
    parent_key: str | None
    batch_id: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None


class Line(msgspec.Struct, frozen=True):
    seq: int
    run_id: str
    attempt: int
    at: int
    level: str
    source: str
    message: str
    data: str | None


_LINE = ", ".join(f"l.{field.name}" for field in msgspec.structs.fields(Line))


def journals(tx: Connection, run_id: str, limit: int) -> list[tuple[int, Entry]]:
    """(journal, entry) of all of them, in the order of their delivery; pending ones last."""
    fields = ", ".join(_ENTRY)
    rows = tx.all(
        f"SELECT journal, {fields} FROM journal WHERE run_id = :run ORDER BY journal, seq IS NULL, seq LIMIT :limit",
        run=run_id, limit=limit,
    )  # fmt: skip
    return [(row[0], Entry(*row[1:])) for row in rows]


def entry(tx: Connection, id: str) -> Entry | None:
    rows = tx.all(f"SELECT {', '.join(_ENTRY)} FROM journal WHERE id = :id", id=id)
    return Entry(*rows[0]) if rows else None


def children(tx: Connection, run_id: str, limit: int) -> list[Child]:
    fields = ", ".join(Child.__struct_fields__)
    return [
        Child(*row) for row in tx.all(f"SELECT {fields} FROM runs WHERE parent_id = :id ORDER BY id LIMIT :limit", id=run_id, limit=limit)
    ]


def lines(
    tx: Connection, run_id: str, *, limit: int, levels: list[str] | None = None, text: str | None = None, after: int = 0
) -> list[Line]:
    """Oldest first."""
    more, params = _said(levels, text)
    rows = tx.all(
        f"SELECT {_LINE} FROM logs l WHERE l.run_id = :run AND l.seq > :after{more} ORDER BY l.seq LIMIT :limit",
        run=run_id, after=after, limit=limit, **params,
    )  # fmt: skip
    return [Line(*row) for row in rows]


def spans(tx: Connection, run_id: str, limit: int) -> list[Line]:
    """What instrumented code and `logger.trace` told of themselves, in the order of their ends."""
    rows = tx.all(
        f"SELECT {_LINE} FROM logs l WHERE l.run_id = :run AND l.source = 'span' ORDER BY l.seq LIMIT :limit", run=run_id, limit=limit
    )
    return [Line(*row) for row in rows]


def line(tx: Connection, run_id: str, seq: int) -> Line | None:
    rows = tx.all(f"SELECT {_LINE} FROM logs l WHERE l.run_id = :run AND l.seq = :seq", run=run_id, seq=seq)
    return Line(*rows[0]) if rows else None


def every_line(
    tx: Connection,
    env_id: int,
    *,
    limit: int,
    before: int | None = None,
    levels: list[str] | None = None,
    text: str | None = None,
    task: str | None = None,
) -> list[tuple[Line, str]]:
    """Lines of all runs with their tasks, newest first."""
    more, params = _said(levels, text)
    if before is not None:
        more, params["before"] = more + " AND l.seq < :before", before
    if task:
        more, params["task"] = more + " AND r.task = :task", task
    rows = tx.all(
        f"SELECT {_LINE}, r.task FROM logs l JOIN runs r ON r.id = l.run_id WHERE r.env_id = :env{more} ORDER BY l.seq DESC LIMIT :limit",
        env=env_id, limit=limit, **params,
    )  # fmt: skip
    return [(Line(*row[:-1]), row[-1]) for row in rows]


def _said(levels: list[str] | None, text: str | None) -> tuple[str, dict[str, object]]:
    sql, params = " AND l.source <> 'span'", dict[str, object]()
    if levels:
        sql, params["levels"] = sql + " AND l.level {in:levels}", levels
    if text:
        sql, params["text"] = sql + " AND lower(l.message) LIKE :text ESCAPE '!'", f"%{literal(text.lower())}%"
    return sql, params
