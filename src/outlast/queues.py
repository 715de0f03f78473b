"""Queues: where runs line up, and how many of them may execute at once."""

from __future__ import annotations

from typing import Literal

import msgspec

from outlast.client import flow, requests
from outlast.client.answers import QueueState
from outlast.client.calls import Pages, call
from outlast.errors import ConfigurationError
from outlast.model.duration import parse_duration
from outlast.model.limits import MAX_CONCURRENCY, MAX_QUEUE_SIZE, MAX_RATE, MAX_RATE_PERIOD_MS, QUEUE_NAME, TASK_QUEUE_PREFIX
from outlast.model.manifest import QueueDefinition
from outlast.model.rate import Rate
from outlast.pending import Pending


class RateLimit(msgspec.Struct, frozen=True):
    """At most `limit` starts in any stretch of time as long as `per`, evenly spread; `burst` of them may come at once on top of that.

    `per_key`: each concurrency key has the whole rate.

    Example:
        >>> queue("mails", rate_limit=RateLimit(100, per="1m")).rate_limit
        RateLimit(limit=100, per='1m', burst=1, per_key=False)
    """

    limit: int
    per: str
    burst: int = 1
    per_key: bool = False


class Queue(msgspec.Struct, frozen=True):
    """A queue that tasks share by naming it. `concurrency_limit` None: only the environment's limit counts."""

    name: str
    concurrency_limit: int | None = None
    combined_concurrency_limit: int | None = None
    rate_limit: RateLimit | None = None
    max_size: int | None = None


registry: dict[str, Queue] = {}


def queue(
    name: str,
    *,
    concurrency_limit: int | None = None,
    combined_concurrency_limit: int | None = None,
    rate_limit: RateLimit | None = None,
    max_size: int | None = None,
) -> Queue:
    """Define a queue that several tasks may share.

    `concurrency_limit` counts for each concurrency key, `combined_concurrency_limit` for all of them together; `rate_limit` says how
    many runs may start in a time; a trigger beyond `max_size` waiting runs is refused.

    Raises:
        ConfigurationError: a name or limit that cannot be.

    Example:
        >>> emails = queue("emails", concurrency_limit=10)
    """
    made = checked(Queue(name, concurrency_limit, combined_concurrency_limit, rate_limit, max_size))
    registry[name] = made
    return made


def checked(made: Queue) -> Queue:
    if not QUEUE_NAME.fullmatch(made.name):
        raise ConfigurationError(f"queue name {made.name!r}: use 1 to 128 of A-Z a-z 0-9 _ . / -")
    if made.name.startswith(TASK_QUEUE_PREFIX):
        raise ConfigurationError(f"queue name {made.name!r}: the prefix {TASK_QUEUE_PREFIX} is reserved for the tasks' own queues")
    for name, least in (("concurrency_limit", 0), ("combined_concurrency_limit", 0), ("max_size", 1)):
        limit = getattr(made, name)
        most = MAX_CONCURRENCY if name != "max_size" else MAX_QUEUE_SIZE
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not least <= limit <= most):
            raise ConfigurationError(f"queue {made.name!r}: {name} must be {least} to {most}, not {limit!r}")
    definition(made)
    return made


def definition(made: Queue) -> QueueDefinition:
    """What the server is told of a queue.

    Raises:
        ConfigurationError: a rate that cannot be.
    """
    return QueueDefinition(
        name=made.name, concurrency_limit=made.concurrency_limit, combined_limit=made.combined_concurrency_limit,
        rate=None if made.rate_limit is None else _rate(made.name, made.rate_limit), max_size=made.max_size,
    )  # fmt: skip


def _rate(name: str, rate: RateLimit) -> Rate:
    try:
        period_ms = parse_duration(rate.per)
    except ValueError as error:
        raise ConfigurationError(f"queue {name!r}: rate_limit.per: {error}") from error
    if not 1 <= rate.limit <= MAX_RATE or not 1 <= rate.burst <= rate.limit or not 1_000 <= period_ms <= MAX_RATE_PERIOD_MS:
        raise ConfigurationError(
            f"queue {name!r}: a rate is 1 to {MAX_RATE} starts per 1s to 31d, with a burst of 1 to its limit, not {rate}"
        )
    return Rate(limit=rate.limit, period_ms=period_ms, burst=rate.burst, per_key=rate.per_key)


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


def pause_environment() -> Pending[None]:
    """Start nothing new in the whole environment; what executes goes on, and triggers are taken."""
    return call("queues.pause_environment()", flow.pause_environment("pause"))


def resume_environment() -> Pending[None]:
    """Start runs of a paused environment again."""
    return call("queues.resume_environment()", flow.pause_environment("resume"))
