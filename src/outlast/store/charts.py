"""Numbers over time and by status, for charts: counted from the runs themselves."""

from __future__ import annotations

from outlast.model.ids import first_id
from outlast.store.database import Connection

Counts = dict[tuple[int, str], int]  # (bucket, status)


def runs_over_time(tx: Connection, env_id: int, *, start: int, width: int, task: str | None = None, queue: str | None = None) -> Counts:
    """Runs by the time they were made, in buckets of `width` ms from `start`."""
    conditions = {"task": task, "queue": queue}
    more = "".join(f" AND r.{name} = :{name}" for name, value in conditions.items() if value is not None)
    rows = tx.all(
        "SELECT (r.created_at - :start) / :width, r.status, count(*) FROM runs r"
        f" WHERE r.env_id = :env AND r.id >= :from_id AND r.created_at >= :start{more} GROUP BY 1, 2",
        env=env_id, start=start, width=width, from_id=first_id("run", start),
        **{name: value for name, value in conditions.items() if value is not None},
    )  # fmt: skip
    return {(int(row[0]), row[1]): row[2] for row in rows}


def tasks_over_time(tx: Connection, env_id: int, *, start: int, width: int) -> dict[str, Counts]:
    """The same for every task at once."""
    rows = tx.all(
        "SELECT r.task, (r.created_at - :start) / :width, r.status, count(*) FROM runs r"
        " WHERE r.env_id = :env AND r.id >= :from_id AND r.created_at >= :start GROUP BY 1, 2, 3",
        env=env_id, start=start, width=width, from_id=first_id("run", start),
    )  # fmt: skip
    found: dict[str, Counts] = {}
    for task, bucket, status, n in rows:
        found.setdefault(task, {})[(int(bucket), status)] = n
    return found


def oldest_run(tx: Connection, env_id: int) -> str | None:
    rows = tx.all("SELECT id FROM runs WHERE env_id = :env ORDER BY id LIMIT 1", env=env_id)
    return rows[0][0] if rows else None


def at_work(tx: Connection, env_id: int) -> tuple[int, int]:
    """(executing, queued) of an environment, from its lanes."""
    rows = tx.all("SELECT COALESCE(sum(used), 0), COALESCE(sum(queued), 0) FROM lanes WHERE env_id = :env", env=env_id)
    return int(rows[0][0]), int(rows[0][1])


def at_work_by_task(tx: Connection, env_id: int) -> dict[str, tuple[int, int]]:
    """task → (executing, queued)"""
    running = tx.all(
        "SELECT r.task, count(*) FROM slots s JOIN runs r ON r.id = s.run_id WHERE s.env_id = :env GROUP BY r.task", env=env_id
    )
    found = {task: (n, 0) for task, n in running}
    queued = tx.all(
        "SELECT r.task, count(*) FROM (SELECT e.run_id FROM lanes l JOIN entries e ON e.lane_id = l.id"
        " WHERE l.env_id = :env AND l.queued > 0 LIMIT 100000) e JOIN runs r ON r.id = e.run_id GROUP BY r.task",
        env=env_id,
    )
    for task, n in queued:
        found[task] = (found.get(task, (0, 0))[0], n)
    return found


def durations(tx: Connection, env_id: int, task: str, limit: int = 1_000) -> tuple[int, int] | None:
    """(median, 95th of a hundred) ms of the last runs of a task that completed."""
    rows = tx.all(
        "SELECT r.finished_at - r.started_at FROM runs r WHERE r.env_id = :env AND r.task = :task AND r.status = 'COMPLETED'"
        " AND r.started_at IS NOT NULL ORDER BY r.id DESC LIMIT :limit",
        env=env_id, task=task, limit=limit,
    )  # fmt: skip
    return _middle_and_tail([row[0] for row in rows])


def delays(tx: Connection, env_id: int, queue: str, limit: int = 1_000) -> tuple[int, int] | None:
    """(median, 95th of a hundred) ms between queue and start of the last runs of a queue."""
    rows = tx.all(
        "SELECT r.started_at - r.queued_at FROM runs r WHERE r.env_id = :env AND r.queue = :queue AND r.started_at IS NOT NULL"
        " AND r.queued_at IS NOT NULL ORDER BY r.id DESC LIMIT :limit",
        env=env_id, queue=queue, limit=limit,
    )  # fmt: skip
    return _middle_and_tail([row[0] for row in rows])


def _middle_and_tail(values: list[int]) -> tuple[int, int] | None:
    values.sort()
    return (values[len(values) // 2], values[len(values) * 95 // 100]) if values else None
