"""`outlast.sync`: the same names, blocking; for Django, Flask, scripts and `def` tasks."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from outlast import alerts as _alerts
from outlast import auth as _auth
from outlast import batch as _batch
from outlast import bulk as _bulk
from outlast import deployments as _deployments
from outlast import env_vars as _env_vars
from outlast import idempotency as _idempotency
from outlast import metadata as _metadata
from outlast import queues as _queues
from outlast import retry as _retry
from outlast import run as _run
from outlast import runs as _runs
from outlast import schedules as _schedules
from outlast import streams as _streams
from outlast import tags as _tags
from outlast import tasks as _tasks
from outlast import wait as _wait
from outlast import webhooks
from outlast.client.address import find
from outlast.client.answers import RunHandle
from outlast.client.calls import blocking, blocking_pages
from outlast.client.client import Noun
from outlast.client.connection import Connection, configure
from outlast.client.live import blocking_live
from outlast.decorator import task
from outlast.errors import AbortTaskRun, OutlastError, SubtaskFailed
from outlast.hooks import local
from outlast.idempotency import idempotency_key
from outlast.logs import logger
from outlast.queues import RateLimit, queue
from outlast.steps import step as _step

from . import hooks
from .batch import BatchItem
from .context import RunContext
from .hooks import Next
from .options import Debounce
from .results import Result
from .retry import Retry
from .scheduled import Cron, ScheduledPayload
from .tasks import Task

if TYPE_CHECKING:
    import httpx

__all__ = [
    "AbortTaskRun",
    "BatchItem",
    "Client",
    "Cron",
    "Debounce",
    "Next",
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
    "tags",
    "task",
    "tasks",
    "wait",
    "webhooks",
]


class tasks:
    """Triggering by id."""

    trigger = staticmethod(blocking(_tasks.trigger))
    batch_trigger = staticmethod(blocking(_tasks.batch_trigger))


class batch:
    """Many runs at once."""

    trigger = staticmethod(blocking(_batch.trigger))
    trigger_and_wait = staticmethod(blocking(_batch.trigger_and_wait))
    retrieve = staticmethod(blocking(_batch.retrieve))


class run:
    """The current run."""

    now = staticmethod(_run.now)
    random = staticmethod(_run.random)
    uuid4 = staticmethod(_run.uuid4)
    checkpoint = staticmethod(_run.checkpoint)
    continue_as = staticmethod(blocking(_run.continue_as))


class retry:
    """Trying again inside a task."""

    on_throw = staticmethod(blocking(_retry.on_throw))
    fetch = staticmethod(blocking(_retry.fetch))
    backoff = staticmethod(_retry.backoff)
    headers = staticmethod(_retry.headers)


class runs:
    """Look at runs, and act on them."""

    retrieve = staticmethod(blocking(_runs.retrieve))
    list = staticmethod(blocking_pages(_runs.list))
    cancel = staticmethod(blocking(_runs.cancel))
    replay = staticmethod(blocking(_runs.replay))
    reschedule = staticmethod(blocking(_runs.reschedule))
    poll = staticmethod(blocking(_runs.poll))
    logs = staticmethod(blocking_pages(_runs.logs))
    subscribe = staticmethod(blocking_live(_runs.subscribe))
    subscribe_tag = staticmethod(blocking_live(_runs.subscribe_tag))
    subscribe_batch = staticmethod(blocking_live(_runs.subscribe_batch))


class queues:
    """Where runs line up."""

    list = staticmethod(blocking_pages(_queues.list))
    retrieve = staticmethod(blocking(_queues.retrieve))
    pause = staticmethod(blocking(_queues.pause))
    resume = staticmethod(blocking(_queues.resume))
    override_concurrency_limit = staticmethod(blocking(_queues.override_concurrency_limit))
    reset_concurrency_limit = staticmethod(blocking(_queues.reset_concurrency_limit))
    pause_environment = staticmethod(blocking(_queues.pause_environment))
    resume_environment = staticmethod(blocking(_queues.resume_environment))


class bulk:
    """Cancel or replay many runs at once."""

    filter = staticmethod(_bulk.filter)
    cancel = staticmethod(blocking(_bulk.cancel))
    replay = staticmethod(blocking(_bulk.replay))
    retrieve = staticmethod(blocking(_bulk.retrieve))
    poll = staticmethod(blocking(_bulk.poll))
    abort = staticmethod(blocking(_bulk.abort))
    undo = staticmethod(blocking(_bulk.undo))
    list = staticmethod(blocking_pages(_bulk.list))


class env_vars:
    """What runs find in their environment."""

    list = staticmethod(blocking(_env_vars.list))
    retrieve = staticmethod(blocking(_env_vars.retrieve))
    create = staticmethod(blocking(_env_vars.create))
    update = staticmethod(blocking(_env_vars.update))
    delete = staticmethod(blocking(_env_vars.delete))
    upload = staticmethod(blocking(_env_vars.upload))


class alerts:
    """Tell people and programs of runs and queues."""

    create = staticmethod(blocking(_alerts.create))
    list = staticmethod(blocking(_alerts.list))
    retrieve = staticmethod(blocking(_alerts.retrieve))
    update = staticmethod(blocking(_alerts.update))
    delete = staticmethod(blocking(_alerts.delete))
    deliveries = staticmethod(blocking(_alerts.deliveries))


class schedules:
    """Tasks that are triggered by themselves."""

    task = staticmethod(_schedules.task)
    create = staticmethod(blocking(_schedules.create))
    update = staticmethod(blocking(_schedules.update))
    retrieve = staticmethod(blocking(_schedules.retrieve))
    list = staticmethod(blocking_pages(_schedules.list))
    activate = staticmethod(blocking(_schedules.activate))
    deactivate = staticmethod(blocking(_schedules.deactivate))
    delete = staticmethod(blocking(_schedules.delete))
    timezones = staticmethod(blocking(_schedules.timezones))
    ticks = staticmethod(blocking(_schedules.ticks))
    upcoming = staticmethod(blocking(_schedules.upcoming))
    preview = staticmethod(_schedules.preview)
    backfill = staticmethod(blocking(_schedules.backfill))


class auth:
    """Public tokens, for browsers and whoever else should not have a key."""

    create_public_token = staticmethod(blocking(_auth.create_public_token))
    create_trigger_public_token = staticmethod(blocking(_auth.create_trigger_public_token))
    create_batch_trigger_public_token = staticmethod(blocking(_auth.create_batch_trigger_public_token))


class deployments:
    """The versions of an environment."""

    list = staticmethod(blocking_pages(_deployments.list))
    retrieve = staticmethod(blocking(_deployments.retrieve))
    retrieve_current = staticmethod(blocking(_deployments.retrieve_current))


class idempotency:
    """Keys that make one run."""

    reset = staticmethod(blocking(_idempotency.reset))


class metadata:
    """What a run shows of itself while it runs."""

    current = staticmethod(_metadata.current)
    get = staticmethod(_metadata.get)
    set = staticmethod(_metadata.set)
    delete = staticmethod(_metadata.delete)
    append = staticmethod(_metadata.append)
    remove = staticmethod(_metadata.remove)
    increment = staticmethod(_metadata.increment)
    decrement = staticmethod(_metadata.decrement)
    replace = staticmethod(_metadata.replace)
    flush = staticmethod(blocking(_metadata.flush))
    parent = _metadata.parent
    root = _metadata.root


class streams:
    """What a run makes while it makes it."""

    define = staticmethod(_streams.define_blocking)
    input = staticmethod(_streams.input_blocking)
    append = staticmethod(blocking(_streams.append))
    pipe = staticmethod(blocking(_streams.pipe))
    read = staticmethod(blocking_live(_streams.read))


class tags:
    """Words by which runs are found and watched."""

    add = staticmethod(blocking(_tags.add))


class wait:
    for_ = staticmethod(blocking(_wait.for_))
    until = staticmethod(blocking(_wait.until))
    create_token = staticmethod(blocking(_wait.create_token))
    for_token = staticmethod(blocking(_wait.for_token))
    complete_token = staticmethod(blocking(_wait.complete_token))
    retrieve_token = staticmethod(blocking(_wait.retrieve_token))
    list_tokens = staticmethod(blocking_pages(_wait.list_tokens))


step = blocking(_step)


class Client:
    """The same nouns, for one server and key. `transport` carries the requests instead of a socket.

    Raises:
        ConfigurationError: nothing says where the server is.

    Example:
        >>> with Client(api_url="http://127.0.0.1:3040", secret_key="tr_dev_sk_…") as client:  # doctest: +SKIP
        ...     client.runs.retrieve("run_…")
    """

    def __init__(self, *, api_url: str | None = None, secret_key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self._connection = Connection(find(api_url, secret_key), sync_transport=transport)
        self.tasks = tasks if TYPE_CHECKING else Noun(tasks, self._connection)
        self.batch = batch if TYPE_CHECKING else Noun(batch, self._connection)
        self.runs = runs if TYPE_CHECKING else Noun(runs, self._connection)
        self.queues = queues if TYPE_CHECKING else Noun(queues, self._connection)
        self.auth = auth if TYPE_CHECKING else Noun(auth, self._connection)
        self.deployments = deployments if TYPE_CHECKING else Noun(deployments, self._connection)
        self.idempotency = idempotency if TYPE_CHECKING else Noun(idempotency, self._connection)
        self.env_vars = env_vars if TYPE_CHECKING else Noun(env_vars, self._connection)
        self.alerts = alerts if TYPE_CHECKING else Noun(alerts, self._connection)
        self.bulk = bulk if TYPE_CHECKING else Noun(bulk, self._connection)
        self.schedules = schedules if TYPE_CHECKING else Noun(schedules, self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close_sync()
