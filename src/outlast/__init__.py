"""Outlast: durable background tasks for Python. Asynchronous here; the same names block in `outlast.sync`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from outlast import (
    alerts,
    auth,
    batch,
    bulk,
    deployments,
    env_vars,
    hooks,
    idempotency,
    metadata,
    queues,
    retry,
    run,
    runs,
    schedules,
    streams,
    tags,
    tasks,
    usage,
    wait,
    webhooks,
)
from outlast.batch import BatchItem
from outlast.client.answers import RunHandle
from outlast.client.connection import configure
from outlast.context import RunContext
from outlast.decorator import task
from outlast.errors import AbortTaskRun, OutlastError, SubtaskFailed
from outlast.hooks import Next, local
from outlast.idempotency import idempotency_key
from outlast.logs import logger
from outlast.options import Debounce
from outlast.queues import RateLimit, queue
from outlast.results import Result
from outlast.retry import Retry
from outlast.scheduled import Cron, ScheduledPayload
from outlast.steps import step
from outlast.tasks import Task
from outlast.version import __version__

if TYPE_CHECKING:
    from outlast import sync
    from outlast.client.client import Client
    from outlast.embedded import Outlast


__all__ = [
    "__version__",
    "AbortTaskRun",
    "BatchItem",
    "Client",
    "Cron",
    "Debounce",
    "Next",
    "Outlast",
    "OutlastError",
    "RateLimit",
    "Result",
    "Retry",
    "RunContext",
    "RunHandle",
    "ScheduledPayload",
    "SubtaskFailed",
    "Task",
    "alerts",
    "auth",
    "batch",
    "bulk",
    "configure",
    "deployments",
    "env_vars",
    "hooks",
    "idempotency",
    "idempotency_key",
    "local",
    "logger",
    "metadata",
    "queue",
    "queues",
    "retry",
    "run",
    "runs",
    "schedules",
    "step",
    "streams",
    "sync",
    "tags",
    "task",
    "tasks",
    "usage",
    "wait",
    "webhooks",
]

# httpx, pydantic and the server cost a tenth of a second each: whoever only triggers never pays for them
_LAZY = {"Client": "outlast.client.client", "Outlast": "outlast.embedded"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "sync":
        return import_module("outlast.sync")
    if name == "define_job":
        raise AttributeError("outlast.define_job does not exist: decorate the function with @task instead")
    raise AttributeError(f"module 'outlast' has no attribute {name!r}")
