"""`outlast.sync`: the same names, blocking; for Django, Flask, scripts and `def` tasks."""

from __future__ import annotations

from outlast import batch as _batch
from outlast import queues as _queues
from outlast import runs as _runs
from outlast import tasks as _tasks
from outlast.client.calls import blocking, blocking_pages
from outlast.client.connection import configure
from outlast.decorator import task
from outlast.errors import AbortTaskRun, SubtaskFailed
from outlast.hooks import local
from outlast.idempotency import idempotency_key
from outlast.logs import logger
from outlast.queues import queue

from . import hooks
from .batch import BatchItem
from .context import RunContext
from .hooks import Next
from .options import Debounce
from .results import Result
from .retry import Retry

__all__ = [
    "AbortTaskRun",
    "BatchItem",
    "Debounce",
    "Next",
    "Result",
    "Retry",
    "RunContext",
    "SubtaskFailed",
    "batch",
    "configure",
    "hooks",
    "idempotency_key",
    "local",
    "logger",
    "queue",
    "queues",
    "runs",
    "task",
    "tasks",
]


class tasks:
    """Triggering by id."""

    trigger = staticmethod(blocking(_tasks.trigger))
    batch_trigger = staticmethod(blocking(_tasks.batch_trigger))


class batch:
    """Many runs at once."""

    trigger = staticmethod(blocking(_batch.trigger))
    retrieve = staticmethod(blocking(_batch.retrieve))


class runs:
    """Look at runs, and act on them."""

    retrieve = staticmethod(blocking(_runs.retrieve))
    list = staticmethod(blocking_pages(_runs.list))
    cancel = staticmethod(blocking(_runs.cancel))
    replay = staticmethod(blocking(_runs.replay))
    reschedule = staticmethod(blocking(_runs.reschedule))
    poll = staticmethod(blocking(_runs.poll))
    logs = staticmethod(blocking_pages(_runs.logs))


class queues:
    """Where runs line up."""

    list = staticmethod(blocking_pages(_queues.list))
    retrieve = staticmethod(blocking(_queues.retrieve))
    pause = staticmethod(blocking(_queues.pause))
    resume = staticmethod(blocking(_queues.resume))
    override_concurrency_limit = staticmethod(blocking(_queues.override_concurrency_limit))
    reset_concurrency_limit = staticmethod(blocking(_queues.reset_concurrency_limit))
