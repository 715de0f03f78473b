"""Lists for people: versions, workers, batches, failures. Read only, a page at a time."""

from __future__ import annotations

import msgspec

from outlast.model.ids import first_id
from outlast.store.batches import Batch
from outlast.store.database import Connection

_BATCH = tuple(field.name for field in msgspec.structs.fields(Batch))


class Version(msgspec.Struct, frozen=True):
    version: str
    digest: str
    python: str
    status: str
    created_at: int
    tasks: int


class Worker(msgspec.Struct, frozen=True):
    """A session with what it holds."""

    id: str
    worker: str
    version: str
    server_id: str
    lease_until: int
    state: str
    created_at: int
    running: int
    executors: int
    draining: int


class Failed(msgspec.Struct, frozen=True):
    run_id: str
    task: str
    status: str
    version: str | None
    finished_at: int | None
    error: str | None


def versions(tx: Connection, env_id: int, limit: int) -> list[Version]:
    rows = tx.all(
        "SELECT d.version, d.digest, d.python, d.status, d.created_at,"
        " (SELECT count(*) FROM task_definitions t WHERE t.env_id = d.env_id AND t.version = d.version)"
        " FROM deployments d WHERE d.env_id = :env ORDER BY d.created_at DESC LIMIT :limit",
        env=env_id, limit=limit,
    )  # fmt: skip
    return [Version(*row) for row in rows]


def workers(tx: Connection, env_id: int, *, since: int) -> list[Worker]:
    """Those connected, and those whose lease ended after `since`."""
    rows = tx.all(
        "SELECT s.id, s.worker, s.version, s.server_id, s.lease_until, s.state, s.created_at,"
        " (SELECT count(*) FROM slots x WHERE x.session_id = s.id),"
        " (SELECT count(DISTINCT x.executor) FROM slots x WHERE x.session_id = s.id), s.draining"
        " FROM sessions s WHERE s.env_id = :env AND (s.state = 'open' OR s.lease_until > :since)"
        " ORDER BY CASE WHEN s.state = 'open' THEN 0 ELSE 1 END, s.created_at DESC LIMIT 200",
        env=env_id, since=since,
    )  # fmt: skip
    return [Worker(*row) for row in rows]


def batches(tx: Connection, env_id: int, *, after: str | None, limit: int) -> list[Batch]:
    """Newest first."""
    older = " AND id < :after" if after else ""
    params = {"after": after} if after else {}
    names = ", ".join(_BATCH)
    rows = tx.all(
        f"SELECT {names} FROM batches WHERE env_id = :env{older} ORDER BY id DESC LIMIT :limit", env=env_id, limit=limit, **params
    )
    return [Batch(**dict(zip(_BATCH, row, strict=True))) for row in rows]


def batch_counts(tx: Connection, batch_id: str) -> dict[str, int]:
    """status → runs"""
    rows = tx.all(
        "SELECT r.status, count(*) FROM batch_items b JOIN runs r ON r.id = b.run_id WHERE b.batch_id = :id GROUP BY r.status", id=batch_id
    )
    return dict(rows)


def failures_since(tx: Connection, env_id: int, *, since: int) -> int:
    """Runs made from then on that have failed."""
    sql = "SELECT count(*) FROM failures WHERE env_id = :env AND run_id >= :from_id"
    return int(tx.all(sql, env=env_id, from_id=first_id("run", since))[0][0])


def failures(tx: Connection, env_id: int, *, since: int, limit: int, task: str | None = None) -> list[Failed]:
    """Runs that failed, newest first."""
    more, params = (" AND r.task = :task", {"task": task}) if task else ("", {})
    rows = tx.all(
        "SELECT r.id, r.task, r.status, r.version, r.finished_at, d.error FROM failures f JOIN runs r ON r.id = f.run_id"
        f" JOIN run_data d ON d.run_id = r.id WHERE f.env_id = :env AND f.run_id >= :from_id{more} ORDER BY f.run_id DESC LIMIT :limit",
        env=env_id, from_id=first_id("run", since), limit=limit, **params,
    )  # fmt: skip
    return [Failed(*row) for row in rows]
