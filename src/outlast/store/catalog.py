"""Environments, queues, versions and what they define: read often, changed rarely."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from outlast.model.manifest import QueueDefinition, TaskDefinition
from outlast.model.rate import Rate
from outlast.store.database import Connection, Later, Row

_ENV = "id, slug, type, limit_, burst, paused, current_version, max_queue_size, max_ttl_ms, signing_secret, tokens_not_before, controlled"
_QUEUE = (
    "id, public_id, env_id, name, limit_, override_, overridden_at, overridden_by, paused, combined_, rate_limit,"
    " rate_period_ms, rate_burst, rate_per_key, max_size"
)
_definition = msgspec.json.Decoder(TaskDefinition).decode


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    slug: str
    type: str
    limit: int
    burst: float
    paused: bool
    current_version: str | None
    max_queue_size: int | None
    max_ttl_ms: int | None
    signing_secret: str
    tokens_not_before: int  # unix seconds
    controlled: bool  # it has queues with rates or combined limits

    @property
    def is_dev(self) -> bool:
        return self.type == "DEVELOPMENT"

    @property
    def room(self) -> int:
        """How many runs may hold slots in all; a single queue never gets more than `limit`."""
        return int(self.limit * self.burst)


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    public_id: str
    env_id: int
    name: str
    limit: int | None
    override: int | None
    overridden_at: int | None
    overridden_by: str | None
    paused: bool
    combined: int | None = None
    rate: Rate | None = None
    max_size: int | None = None


def environments(tx: Connection) -> list[Environment]:
    return [_environment(row) for row in tx.all(f"SELECT {_ENV} FROM environments ORDER BY id")]


def environment(tx: Connection, env_id: int, *, lock: bool = False) -> Environment:
    suffix = " {for_update}" if lock else ""
    return _environment(tx.all(f"SELECT {_ENV} FROM environments WHERE id = :id" + suffix, id=env_id)[0])


def ask_environment(tx: Connection, env_id: int) -> Later[Environment]:
    rows = tx.ask(f"SELECT {_ENV} FROM environments WHERE id = :id", id=env_id)
    return lambda: _environment(rows()[0])


def add_environment(tx: Connection, *, id: int, slug: str, type: str, limit: int, burst: float, signing_secret: str, now: int) -> None:
    tx.execute(
        "INSERT INTO environments (id, slug, type, limit_, burst, signing_secret, created_at)"
        " VALUES (:id, :slug, :type, :limit, :burst, :secret, :now) ON CONFLICT DO NOTHING",
        id=id, slug=slug, type=type, limit=limit, burst=burst, secret=signing_secret, now=now,
    )  # fmt: skip


def set_environment_limit(tx: Connection, env_id: int, limit: int, burst: float) -> None:
    tx.execute("UPDATE environments SET limit_ = :limit, burst = :burst WHERE id = :id", id=env_id, limit=limit, burst=burst)


def pause_environment(tx: Connection, env_id: int, paused: bool) -> None:
    tx.execute("UPDATE environments SET paused = :paused WHERE id = :id", id=env_id, paused=int(paused))


def refuse_tokens_before(tx: Connection, env_id: int, seconds: int) -> None:
    tx.execute("UPDATE environments SET tokens_not_before = :seconds WHERE id = :id", id=env_id, seconds=seconds)


def promote(tx: Connection, env_id: int, version: str) -> None:
    tx.execute("UPDATE environments SET current_version = :version WHERE id = :id", id=env_id, version=version)


def queues(tx: Connection, env_id: int, names: Collection[str]) -> list[Queue]:
    if not names:
        return []
    return [
        _queue(r) for r in tx.all(f"SELECT {_QUEUE} FROM queues WHERE env_id = :env AND name {{in:names}}", env=env_id, names=sorted(names))
    ]


def queue(
    tx: Connection, env_id: int, *, id: int | None = None, public_id: str | None = None, name: str | None = None, lock: bool = False
) -> Queue | None:
    column, value = ("id", id) if id is not None else ("public_id", public_id) if public_id is not None else ("name", name)
    suffix = " {for_update}" if lock else ""
    rows = tx.all(f"SELECT {_QUEUE} FROM queues WHERE env_id = :env AND {column} = :value" + suffix, env=env_id, value=value)
    return _queue(rows[0]) if rows else None


def queue_page(tx: Connection, env_id: int, *, offset: int, limit: int) -> tuple[int, list[Queue]]:
    """(how many there are, this page by name)"""
    total = tx.all("SELECT count(*) FROM queues WHERE env_id = :env", env=env_id)[0][0]
    rows = tx.all(
        f"SELECT {_QUEUE} FROM queues WHERE env_id = :env ORDER BY name LIMIT :limit OFFSET :offset", env=env_id, limit=limit, offset=offset
    )
    return total, [_queue(row) for row in rows]


def upsert_queue(tx: Connection, *, public_id: str, env_id: int, definition: QueueDefinition, now: int) -> None:
    rate = definition.rate
    tx.execute(
        "INSERT INTO queues (public_id, env_id, name, limit_, combined_, rate_limit, rate_period_ms, rate_burst, rate_per_key, max_size,"
        " created_at) VALUES (:public_id, :env, :name, :limit, :combined, :rate_limit, :period_ms, :burst, :per_key, :max_size, :now)"
        " ON CONFLICT (env_id, name) DO UPDATE SET limit_ = excluded.limit_, combined_ = excluded.combined_,"
        " rate_limit = excluded.rate_limit, rate_period_ms = excluded.rate_period_ms, rate_burst = excluded.rate_burst,"
        " rate_per_key = excluded.rate_per_key, max_size = excluded.max_size",
        public_id=public_id, env=env_id, name=definition.name, limit=definition.concurrency_limit, combined=definition.combined_limit,
        rate_limit=rate.limit if rate else None, period_ms=rate.period_ms if rate else None, burst=rate.burst if rate else None,
        per_key=int(rate.per_key) if rate else None, max_size=definition.max_size, now=now,
    )  # fmt: skip
    if definition.is_controlled:
        tx.execute("UPDATE environments SET controlled = 1 WHERE id = :id", id=env_id)


def pause_queue(tx: Connection, queue_id: int, paused: bool) -> None:
    tx.execute("UPDATE queues SET paused = :paused WHERE id = :id", id=queue_id, paused=int(paused))


def override_limit(tx: Connection, queue_id: int, *, limit: int | None, by: str | None, now: int | None) -> None:
    tx.execute(
        "UPDATE queues SET override_ = :limit, overridden_at = :now, overridden_by = :by WHERE id = :id",
        id=queue_id,
        limit=limit,
        by=by,
        now=now,
    )


def version_with_digest(tx: Connection, env_id: int, digest: str) -> str | None:
    rows = tx.all("SELECT version FROM deployments WHERE env_id = :env AND digest = :digest", env=env_id, digest=digest)
    return rows[0][0] if rows else None


def versions_like(tx: Connection, env_id: int, prefix: str) -> list[str]:
    return [
        r[0] for r in tx.all("SELECT version FROM deployments WHERE env_id = :env AND version LIKE :like", env=env_id, like=prefix + ".%")
    ]


def version_exists(tx: Connection, env_id: int, version: str) -> bool:
    return bool(tx.all("SELECT 1 FROM deployments WHERE env_id = :env AND version = :version", env=env_id, version=version))


def add_version(
    tx: Connection, *, env_id: int, version: str, digest: str, python: str, tasks: Collection[TaskDefinition], now: int
) -> None:
    tx.execute(
        "INSERT INTO deployments (env_id, version, digest, python, status, created_at)"
        " VALUES (:env, :version, :digest, :python, 'DEPLOYED', :now)",
        env=env_id, version=version, digest=digest, python=python, now=now,
    )  # fmt: skip
    tx.many(
        "INSERT INTO task_definitions (env_id, version, task, definition) VALUES (?, ?, ?, ?)",
        [(env_id, version, t.id, msgspec.json.encode(t).decode()) for t in tasks],
    )


def task_definitions(tx: Connection, env_id: int, version: str, tasks: Collection[str] | None = None) -> dict[str, TaskDefinition]:
    if tasks is None:
        rows = tx.all(
            "SELECT task, definition FROM task_definitions WHERE env_id = :env AND version = :version", env=env_id, version=version
        )
    else:
        rows = tx.all(
            "SELECT task, definition FROM task_definitions WHERE env_id = :env AND version = :version AND task {in:tasks}",
            env=env_id, version=version, tasks=sorted(tasks),
        )  # fmt: skip
    return {row[0]: _definition(row[1]) for row in rows}


def _environment(row: Row) -> Environment:
    id_, slug, type_, limit, burst, paused, current_version, max_queue_size, max_ttl_ms, signing_secret, tokens_not_before, controlled = row
    return Environment(
        id=id_, slug=slug, type=type_, limit=limit, burst=burst, paused=bool(paused), current_version=current_version,
        max_queue_size=max_queue_size, max_ttl_ms=max_ttl_ms, signing_secret=signing_secret, tokens_not_before=tokens_not_before,
        controlled=bool(controlled),
    )  # fmt: skip


def _queue(row: Row) -> Queue:
    id_, public_id, env_id, name, limit, override, overridden_at, overridden_by, paused, combined, rate, *rest = row
    period_ms, burst, per_key, most = rest
    return Queue(
        id=id_, public_id=public_id, env_id=env_id, name=name, limit=limit, override=override,
        overridden_at=overridden_at, overridden_by=overridden_by, paused=bool(paused), combined=combined,
        rate=None if rate is None else Rate(limit=rate, period_ms=period_ms, burst=burst, per_key=bool(per_key)), max_size=most,
    )  # fmt: skip
