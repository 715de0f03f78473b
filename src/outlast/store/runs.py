"""Runs: the hot row, the cold row beside it, tags, and the small tables of runs that failed or are parked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter

import msgspec

from outlast.model.run import Execution, Run, RunData, RunOptions, Status
from outlast.store import retention
from outlast.store.database import Connection, Later, Row

COLUMNS = tuple(field.name for field in msgspec.structs.fields(Run))
SELECT = ", ".join(f"r.{name}" for name in COLUMNS)
# what an update writes; the rest of a run never changes after its insert
MUTABLE = (
    "queue",
    "queue_id",
    "lane_id",
    "pos",
    "route",
    "status",
    "execution",
    "epoch",
    "attempt",
    "snapshot",
    "held_by",
    "version",
    "pending_waits",
    "next_seq",
    "cancel_asked",
    "due_at",
    "queued_at",
    "started_at",
    "finished_at",
    "updated_at",
    "ttl_ms",
    "losses",
    "deliveries",
    "usage_ms",
    "cpu_ms",
    "peak_memory",
    "attempt_ms",
    "attempt_cpu_ms",
    "resuming",
    "journal",
    "executor",
    "seen_seq",
    "gate",
    "gated",
    "max_attempts",
    "max_duration",
)
_ENUMS = {"status": "status._value_", "execution": "execution._value_"}  # the drivers bind plain strings fastest
_all_values = attrgetter(*(_ENUMS.get(name, name) for name in COLUMNS))
_mutable_values = attrgetter(*(_ENUMS.get(name, name) for name in MUTABLE), "id")
_SELECT_IN = f"SELECT {SELECT} FROM runs r WHERE r.id {{in:ids}} ORDER BY r.id"
_LOCK = _SELECT_IN + " {for_update}"
_STATUS = {status.value: status for status in Status}
_EXECUTION = {execution.value: execution for execution in Execution}
_AT_STATUS = COLUMNS.index("status")
_AT_EXECUTION = COLUMNS.index("execution")
_AT_TEST = COLUMNS.index("is_test")
_options = msgspec.json.Decoder(RunOptions).decode
_encode = msgspec.json.encode


def from_row(row: Row) -> Run:
    values = list(row[: len(COLUMNS)])  # it may carry more columns behind ours
    values[_AT_STATUS] = _STATUS[row[_AT_STATUS]]
    values[_AT_EXECUTION] = _EXECUTION[row[_AT_EXECUTION]]
    values[_AT_TEST] = bool(row[_AT_TEST])
    return Run(*values)  # by place: by name it takes five times as long


def lock(tx: Connection, ids: Collection[str]) -> Later[dict[str, Run]]:
    """The runs, held against other transactions until this one ends, taken in the order of their ids."""
    if not ids:
        return dict
    rows = tx.ask(_LOCK, ids=sorted(ids))
    return lambda: {row[0]: from_row(row) for row in rows()}


def read(tx: Connection, ids: Collection[str]) -> list[Run]:
    return [from_row(row) for row in tx.all(_SELECT_IN, ids=sorted(ids))] if ids else []


def environments(tx: Connection, ids: Collection[str]) -> dict[str, int]:
    """Whose they are; those that do not exist are left out."""
    return {row[0]: row[1] for row in tx.all("SELECT id, env_id FROM runs WHERE id {in:ids}", ids=sorted(ids))}


def insert(tx: Connection, runs: Iterable[Run]) -> None:
    tx.insert("runs", COLUMNS, [tuple_of(run) for run in runs])


def tuple_of(run: Run) -> Row:
    values: Row = _all_values(run)
    return (*values[:-1], int(run.is_test))


def update(tx: Connection, runs: Iterable[Run]) -> None:
    rows: list[Row] = [_mutable_values(run) for run in runs]
    assert len({row[-1] for row in rows}) == len(rows), "a run stands twice in one update"
    tx.update("runs", MUTABLE, ["id"], rows)


def insert_data(tx: Connection, data: Iterable[RunData]) -> None:
    tx.insert(
        "run_data",
        ("run_id", "payload", "payload_type", "options", "metadata", "output", "output_type", "error", "result_hash"),
        [
            (d.run_id, d.payload, d.payload_type, _encode(d.options).decode(), d.metadata, d.output, d.output_type, d.error, d.result_hash)
            for d in data
        ],
    )


def save_results(tx: Connection, rows: Sequence[tuple[str | None, str | None, str | None, str | None, str]]) -> None:
    """(output, output_type, error, result_hash, run_id)"""
    tx.update("run_data", ("output", "output_type", "error", "result_hash"), ["run_id"], rows)


def result_hashes(tx: Connection, ids: Collection[str]) -> dict[str, str | None]:
    return dict(tx.all("SELECT run_id, result_hash FROM run_data WHERE run_id {in:ids}", ids=sorted(ids))) if ids else {}


def data(tx: Connection, ids: Collection[str]) -> dict[str, RunData]:
    return ask_data(tx, ids)()


def ask_data(tx: Connection, ids: Collection[str]) -> Later[dict[str, RunData]]:
    if not ids:
        return dict
    rows = tx.ask(
        "SELECT run_id, payload, payload_type, options, metadata, output, output_type, error, result_hash"
        " FROM run_data WHERE run_id {in:ids}",
        ids=sorted(ids),
    )
    return lambda: {row[0]: data_from_row(row) for row in rows()}


def options(tx: Connection, ids: Collection[str]) -> dict[str, RunOptions]:
    if not ids:
        return {}
    return {row[0]: _options(row[1]) for row in tx.all("SELECT run_id, options FROM run_data WHERE run_id {in:ids}", ids=sorted(ids))}


def data_from_row(row: Row) -> RunData:
    run_id, payload, payload_type, options, metadata, output, output_type, error, result_hash = row
    return RunData(
        run_id=run_id,
        payload=payload,
        payload_type=payload_type,
        options=_options(options),
        metadata=metadata,
        output=output,
        output_type=output_type,
        error=error,
        result_hash=result_hash,
    )


def set_options(tx: Connection, rows: Sequence[tuple[RunOptions, str]]) -> None:
    tx.many("UPDATE run_data SET options = ? WHERE run_id = ?", [(_encode(options).decode(), run_id) for options, run_id in rows])


def replace_data(tx: Connection, data: Iterable[RunData], gone_tags: Sequence[tuple[int, str, str]]) -> None:
    """What a debounced trigger brought instead; (env_id, tag, run_id) of tags that are not its own any more."""
    rows = [(d.payload, d.payload_type, _encode(d.options).decode(), d.metadata, d.run_id) for d in data]
    tx.update("run_data", ("payload", "payload_type", "options", "metadata"), ["run_id"], rows)
    tx.delete("run_tags", ("env_id", "tag", "run_id"), gone_tags)


def set_metadata(tx: Connection, rows: Sequence[tuple[str | None, str]]) -> None:
    """(metadata, run_id)"""
    tx.update("run_data", ["metadata"], ["run_id"], rows)


def add_tags(tx: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    """(env_id, tag, run_id)"""
    tx.insert("run_tags", ("env_id", "tag", "run_id"), rows, or_ignore=True)


def add_failures(tx: Connection, rows: Sequence[tuple[int, str]]) -> None:
    tx.insert("failures", ("env_id", "run_id"), rows, or_ignore=True)


def park(tx: Connection, rows: Sequence[tuple[int, str, str, str | None]]) -> None:
    """(env_id, task, run_id, queue)"""
    tx.insert("parked", ("env_id", "task", "run_id", "queue"), rows, or_ignore=True)


def unpark(tx: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    tx.delete("parked", ("env_id", "task", "run_id"), rows)


def parked(tx: Connection, env_id: int, tasks: Collection[str], limit: int) -> list[tuple[str, str, str | None, str | None]]:
    """(task, run_id, queue, concurrency key) of runs that wait for one of these tasks, oldest first."""
    if not tasks:
        return []
    rows = tx.all(
        "SELECT p.task, p.run_id, p.queue, r.concurrency_key FROM parked p JOIN runs r ON r.id = p.run_id"
        " WHERE p.env_id = :env AND p.task {in:tasks} ORDER BY p.run_id LIMIT :limit",
        env=env_id,
        tasks=sorted(tasks),
        limit=limit,
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def parents(tx: Connection, ids: Collection[str]) -> Later[list[tuple[str, str]]]:
    """(parent, key of its entry) of those that a parent waits for."""
    if not ids:
        return list
    rows = tx.ask("SELECT parent_id, parent_key FROM runs WHERE id {in:ids} AND parent_key IS NOT NULL", ids=sorted(ids))
    return lambda: [(row[0], row[1]) for row in rows()]


def children(tx: Connection, parent_id: str, limit: int) -> list[str]:
    """Children of a run that are not over yet, and end with it."""
    rows = tx.all(
        "SELECT id FROM runs WHERE parent_id = :parent AND finished_at IS NULL AND detached = 0 ORDER BY id LIMIT :limit",
        parent=parent_id,
        limit=limit,
    )
    return [row[0] for row in rows]


def of_batch(tx: Connection, batch_id: str, after: str, limit: int) -> list[str]:
    """Runs that a batch made, and that are not over yet, those with larger ids than `after`."""
    rows = tx.all(
        "SELECT r.id FROM batch_items i JOIN runs r ON r.id = i.run_id"
        " WHERE i.batch_id = :id AND r.batch_id = :id AND r.id > :after AND r.finished_at IS NULL ORDER BY r.id LIMIT :limit",
        id=batch_id,
        after=after,
        limit=limit,
    )
    return [row[0] for row in rows]


def prune(tx: Connection, before: int, after: str, limit: int) -> tuple[int, str]:
    """Delete runs that ended before that time, with all that belongs to them; (how many, where to go on, "" at the end)."""
    ids, following = retention.ended(tx, "runs", before, after, limit)
    if not ids:
        return 0, following
    for table in ("run_data", "run_tags", "failures", "events", "logs", "journal", "streams", "stream_records", "stream_writers"):
        tx.send(f"DELETE FROM {table} WHERE run_id {{in:ids}}", ids=ids)
    tx.send("DELETE FROM runs WHERE id {in:ids}", ids=ids)
    return len(ids), following
