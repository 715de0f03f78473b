"""Lists of runs, newest first, a page at a time. Filters are matched as data; what may be searched has its own index or table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from outlast.model.ids import first_id
from outlast.model.limits import DEFAULT_MACHINE
from outlast.model.run import FAILED, Run, RunData, RunOptions, Status
from outlast.store import runs
from outlast.store.database import Connection


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """All given conditions must hold. Ids carry their time, so that a range of time is a range of ids."""

    env_id: int
    ids: Sequence[str] | None = None  # one of these
    after: str | None = None  # older than this run
    before: str | None = None  # newer than this run
    upto: str | None = None  # this run or older
    statuses: Sequence[str] = ()
    tasks: Sequence[str] = ()
    versions: Sequence[str] = ()
    tags: Sequence[str] = ()
    queues: Sequence[str] = ()
    machines: Sequence[str] = ()
    regions: Sequence[str] = ()
    batch: str | None = None
    schedule: str | None = None
    bulk_action: str | None = None
    parent: str | None = None
    roots_only: bool = False
    like_id: str | None = None  # a part of the id
    is_test: bool | None = None
    created_from: int | None = None
    created_to: int | None = None


def page(tx: Connection, f: Filter, limit: int) -> list[tuple[Run, RunData]]:
    """Up to `limit` runs that match, newest first (oldest first when looking before a run)."""
    sql, params = _where(f)
    order = "ASC" if f.before is not None else "DESC"
    rows = tx.all(f"SELECT {runs.SELECT} FROM runs r {sql} ORDER BY r.id {order} LIMIT :limit", **params, limit=limit)
    found = [runs.from_row(row) for row in rows]
    data = runs.data(tx, [run.id for run in found])
    pairs = [(run, data[run.id]) for run in found if run.id in data]
    return pairs if f.before is None else pairs[::-1]


def rows(tx: Connection, f: Filter, limit: int) -> list[tuple[Run, RunOptions]]:
    """The same without payloads and outputs: what a list shows."""
    sql, params = _where(f)
    order = "ASC" if f.before is not None else "DESC"
    found = tx.all(f"SELECT {runs.SELECT} FROM runs r {sql} ORDER BY r.id {order} LIMIT :limit", **params, limit=limit)
    hot = [runs.from_row(row) for row in found]
    options = runs.options(tx, [run.id for run in hot])
    pairs = [(run, options.get(run.id, RunOptions())) for run in hot]
    return pairs if f.before is None else pairs[::-1]


def named(tx: Connection, env_id: int, ids: Sequence[str]) -> list[tuple[Run, RunOptions]]:
    """These runs, as far as they are of this environment."""
    return [(run, RunOptions()) for run in runs.read(tx, ids) if run.env_id == env_id]


def count(tx: Connection, f: Filter, limit: int) -> int:
    """How many match, counted up to `limit`."""
    sql, params = _where(f)
    return tx.all(f"SELECT count(*) FROM (SELECT 1 FROM runs r {sql} LIMIT :limit) x", **params, limit=limit)[0][0]


def tags_like(tx: Connection, env_id: int, text: str, limit: int) -> list[str]:
    """The first tags that begin like this, each found by one step in the index: the table holds a tag once for every run."""
    sql = "SELECT tag FROM run_tags WHERE env_id = :env AND tag {} :last ORDER BY tag LIMIT 1"
    found: list[str] = []
    row = tx.all(sql.format(">="), env=env_id, last=text)
    while row and row[0][0].startswith(text) and len(found) < limit:
        found.append(row[0][0])
        row = tx.all(sql.format(">"), env=env_id, last=found[-1])
    return found


def literal(text: str) -> str:
    """For LIKE … ESCAPE '!': every character stands for itself."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _options(f: Filter, params: dict[str, Any]) -> list[str]:
    """Conditions on what a trigger asked for, which is kept as JSON beside the run: rare filters that have no index of their own."""
    conditions: list[str] = []
    wanted = {
        "machine": f.machines,
        "region": f.regions,
        "schedule_id": [f.schedule] if f.schedule else [],
        "bulk_action_id": [f.bulk_action] if f.bulk_action else [],
    }
    for name, values in wanted.items():
        likes: list[str] = []
        for i, value in enumerate(values):
            key = f"{name}_{i}"
            params[key] = "%" + literal(f'"{name}":{msgspec.json.encode(value).decode()}') + "%"
            likes.append(f"d.options LIKE :{key} ESCAPE '!'")
        if name == "machine" and DEFAULT_MACHINE in values:
            params["no_machine"] = '%"machine":%'
            likes.append("d.options NOT LIKE :no_machine")
        if likes:
            conditions.append(f"EXISTS (SELECT 1 FROM run_data d WHERE d.run_id = r.id AND ({' OR '.join(likes)}))")
    return conditions


def _where(f: Filter) -> tuple[str, dict[str, Any]]:
    """The FROM's joins and the conditions, every value a parameter."""
    joins, conditions = "", ["r.env_id = :env"]
    params: dict[str, Any] = {"env": f.env_id}
    if f.tags:
        joins = "JOIN (SELECT DISTINCT run_id FROM run_tags WHERE env_id = :env AND tag {in:tags}) t ON t.run_id = r.id "
        params["tags"] = list(f.tags)
    if f.statuses and set(f.statuses) <= {status.value for status in FAILED}:
        joins += "JOIN failures x ON x.env_id = r.env_id AND x.run_id = r.id "  # rare: their own small table finds them
    elif set(f.statuses) == {Status.PENDING_VERSION.value}:
        joins += "JOIN parked p ON p.env_id = r.env_id AND p.task = r.task AND p.run_id = r.id "
    conditions += _options(f, params)
    if f.roots_only:
        conditions.append("r.parent_id IS NULL")
    if f.ids is not None:
        conditions.append("r.id {in:ids}")
        params["ids"] = list(f.ids)
    lists = {"status": f.statuses, "task": f.tasks, "version": f.versions, "queue": f.queues}
    for name, values in lists.items():
        if values:
            conditions.append(f"r.{name} {{in:{name}s}}")
            params[f"{name}s"] = list(values)
    singles = {
        "r.id < :after": ("after", f.after),
        "r.id > :before": ("before", f.before),
        "r.id <= :upto": ("upto", f.upto),
        "r.batch_id = :batch": ("batch", f.batch),
        "r.parent_id = :parent": ("parent", f.parent),
        "r.id LIKE :like_id ESCAPE '!'": ("like_id", None if f.like_id is None else f"%{literal(f.like_id)}%"),
        "r.is_test = :is_test": ("is_test", None if f.is_test is None else int(f.is_test)),
        "r.created_at >= :created_from": ("created_from", f.created_from),
        # an id is as old as its run, or newer when the clock went back: the index of ids ends the search
        "r.id >= :from_id": ("from_id", None if f.created_from is None else first_id("run", f.created_from)),
        "r.created_at <= :created_to": ("created_to", f.created_to),
    }
    for condition, (name, value) in singles.items():
        if value is not None:
            conditions.append(condition)
            params[name] = value
    return f"{joins}WHERE {' AND '.join(conditions)}", params


def one(tx: Connection, env_id: int, run_id: str) -> tuple[Run, RunData] | None:
    """A run of this environment; another environment's does not exist."""
    found = runs.read(tx, [run_id])
    if not found or found[0].env_id != env_id:
        return None
    data = runs.data(tx, [run_id]).get(run_id)
    return None if data is None else (found[0], data)


def family(tx: Connection, run: Run, limit: int = 100) -> dict[str, list[tuple[Run, RunData]]]:
    """Root, parent and children of a run."""
    wanted = {"root": [run.root_id] if run.root_id else [], "parent": [run.parent_id] if run.parent_id else []}
    rows = tx.all("SELECT id FROM runs WHERE parent_id = :id ORDER BY id LIMIT :limit", id=run.id, limit=limit)
    wanted["children"] = [row[0] for row in rows]
    every = {run_id for ids in wanted.values() for run_id in ids}
    by_id, data = {r.id: r for r in runs.read(tx, every)}, runs.data(tx, every)
    return {name: [(by_id[i], data[i]) for i in ids if i in by_id and i in data] for name, ids in wanted.items()}


def ended_of(tx: Connection, batch_id: str, run_ids: Sequence[str]) -> tuple[int, int]:
    """(succeeded, failed) of a batch's runs."""
    if not run_ids:
        return 0, 0
    rows = tx.all(
        "SELECT r.status, count(*) FROM batch_items b JOIN runs r ON r.id = b.run_id WHERE b.batch_id = :id GROUP BY r.status", id=batch_id
    )
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    failed = sum(n for status, n in counts.items() if Status(status) in FAILED or status == Status.CANCELED.value)
    return counts.get(Status.COMPLETED.value, 0), failed
