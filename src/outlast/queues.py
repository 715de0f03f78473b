"""Queues: where runs line up, and how many of them may execute at once."""

from __future__ import annotations

from typing import Literal

import msgspec

from outlast.client import requests
from outlast.client.answers import QueueState
from outlast.client.calls import Pages, call
from outlast.errors import ConfigurationError
from outlast.model.limits import MAX_CONCURRENCY, QUEUE_NAME, TASK_QUEUE_PREFIX
from outlast.pending import Pending


class Queue(msgspec.Struct, frozen=True):
    """A queue that tasks share by naming it. `concurrency_limit` None: only the environment's limit counts."""

    name: str
    concurrency_limit: int | None = None


registry: dict[str, Queue] = {}


def queue(name: str, *, concurrency_limit: int | None = None) -> Queue:
    """Define a queue that several tasks may share.

    Raises:
        ConfigurationError: a name or limit that cannot be.

    Example:
        >>> emails = queue("emails", concurrency_limit=10)
    """
    made = checked(Queue(name, concurrency_limit))
    registry[name] = made
    return made


def checked(made: Queue) -> Queue:
    if not QUEUE_NAME.fullmatch(made.name):
        raise ConfigurationError(f"queue name {made.name!r}: use 1 to 128 of A-Z a-z 0-9 _ . / -")
    if made.name.startswith(TASK_QUEUE_PREFIX):
        raise ConfigurationError(f"queue name {made.name!r}: the prefix {TASK_QUEUE_PREFIX} is reserved for the tasks' own queues")
    limit = made.concurrency_limit
    if limit is not None and (isinstance(limit, bool) or not 0 <= limit <= MAX_CONCURRENCY):
        raise ConfigurationError(f"queue {made.name!r}: concurrency_limit must be 0 to {MAX_CONCURRENCY}, not {limit!r}")
    return made


Kind = Literal["id", "task", "custom"]


def list(*, page_size: int = 25) -> Pages[QueueState]:
    """All queues of the environment, by name; fetched page by page."""
    return Pages(lambda page: requests.list_queues(int(page or 1), page_size))


def retrieve(name: str, *, type: Kind = "custom") -> Pending[QueueState]:
    """A queue by its name, by its id (`type="id"`), or by its task (`type="task"`)."""
    return call("queues.retrieve(…)", requests.retrieve_queue(name, type))


def pause(name: str, *, type: Kind = "custom") -> Pending[QueueState]:
    """Start nothing new from this queue; what executes goes on."""
    return call("queues.pause(…)", requests.pause_queue(name, type, "pause"))


def resume(name: str, *, type: Kind = "custom") -> Pending[QueueState]:
    """Start runs of a paused queue again."""
    return call("queues.resume(…)", requests.pause_queue(name, type, "resume"))


def override_concurrency_limit(name: str, limit: int, *, type: Kind = "custom") -> Pending[QueueState]:
    """Set the limit until it is reset, also across deploys."""
    return call("queues.override_concurrency_limit(…)", requests.override_queue(name, type, limit))


def reset_concurrency_limit(name: str, *, type: Kind = "custom") -> Pending[QueueState]:
    """Back to the limit that the code says."""
    return call("queues.reset_concurrency_limit(…)", requests.reset_queue(name, type))
