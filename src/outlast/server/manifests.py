"""What a worker registers, checked: tasks are checked where they are defined, but whoever has a worker's key can say anything."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from outlast.model.cron import check_cron, check_zone
from outlast.model.limits import MAX_CONCURRENCY, MAX_QUEUE_SIZE, MAX_REGISTERED_TASKS, MAX_SCHEMA_BYTES, QUEUE_NAME, TASK_ID
from outlast.model.manifest import Manifest, QueueDefinition, TaskDefinition
from outlast.model.schedule import check_window


def fault(manifest: Manifest, now: int) -> str | None:
    """What is wrong with it, naming the task or queue; None when it can be registered."""
    if max(len(manifest.tasks), len(manifest.queues)) > MAX_REGISTERED_TASKS:
        return f"a version has at most {MAX_REGISTERED_TASKS} tasks and as many queues"
    if len(manifest.content_hash) > 128 or len(manifest.python) > 32:
        return "content_hash or python is longer than it can be"
    try:
        for _ in _checked(manifest, now):
            pass
    except ValueError as error:
        return str(error)
    return None


def _checked(manifest: Manifest, now: int) -> Iterator[None]:
    files: dict[str, str] = {}
    for task in manifest.tasks:
        if task.id in files:
            raise ValueError(f"two tasks have the id {task.id!r}: in {files[task.id]!r} and {task.file[:200]!r}")
        files[task.id] = task.file[:200]
        yield _check_task(task, now)
    for queue in (*manifest.queues, *(task.queue for task in manifest.tasks if task.queue is not None)):
        yield _check_queue(queue)


def _check_task(task: TaskDefinition, now: int) -> None:
    if not TASK_ID.fullmatch(task.id):
        raise ValueError(f"task id {task.id[:100]!r} is not one")
    if task.payload_schema is not None and len(msgspec.json.encode(task.payload_schema)) > MAX_SCHEMA_BYTES:
        raise ValueError(f"the schema of task {task.id!r} is larger than {MAX_SCHEMA_BYTES} bytes")
    if task.schedule is not None:
        check_cron(task.schedule.cron, now)
        check_zone(task.schedule.timezone)
        if task.schedule.window is not None:
            check_window(task.schedule.window)


def _check_queue(queue: QueueDefinition) -> None:
    if not QUEUE_NAME.fullmatch(queue.name):
        raise ValueError(f"queue name {queue.name[:100]!r} is not one")
    for name, limit, most in (
        ("concurrency_limit", queue.concurrency_limit, MAX_CONCURRENCY),
        ("combined_limit", queue.combined_limit, MAX_CONCURRENCY),
        ("max_size", queue.max_size, MAX_QUEUE_SIZE),
    ):
        if limit is not None and not 0 <= limit <= most:
            raise ValueError(f"{name} of queue {queue.name!r} is from 0 to {most}")
