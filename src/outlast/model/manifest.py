"""What a worker says about its code: the tasks and queues of one version."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from outlast.model.rate import Rate
from outlast.model.retry import Retry
from outlast.model.schedule import CatchUp, Overlap

PROTOCOL = 1
Kind = Literal["async", "thread", "process"]  # coroutines of an executor, its threads, or a process for each run


class QueueDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    concurrency_limit: int | None = None
    combined_limit: int | None = None  # of all concurrency keys together
    rate: Rate | None = None
    max_size: int | None = None  # a trigger beyond it is refused

    @property
    def is_controlled(self) -> bool:
        """Whether a claim has more to look at than its lanes."""
        return self.combined_limit is not None or self.rate is not None

    @property
    def has_rules(self) -> bool:
        return self.is_controlled or self.concurrency_limit is not None or self.max_size is not None


class ScheduleDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a task is triggered by itself. No `environments`: in all."""

    cron: str
    timezone: str = "UTC"
    environments: list[str] = []
    window: str | None = None
    overlap: Overlap = "allow"
    catch_up: CatchUp = "none"

    def runs_in(self, environment_type: str) -> bool:
        return not self.environments or environment_type in self.environments


class TaskDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task as the server needs to know it. `kind` says which executors run it."""

    id: str
    kind: Kind = "async"
    file: str = ""
    line: int = 0
    description: str | None = None
    queue: QueueDefinition | None = None  # None: its own, named task/<id>
    retry: Retry | None = None
    machine: str | None = None
    max_duration: float | None = None
    ttl_ms: int | None = None
    schedule: ScheduleDefinition | None = None
    scheduled: bool = False  # schedules may be made for it
    singleton: Literal["skip", "queue", "cancel_previous"] | None = None
    cancel_replays: bool = False  # its code hears of a cancel also when it waits and nobody has its coroutine
    payload_schema: dict[str, Any] | None = None

    @property
    def queue_name(self) -> str:
        return self.queue.name if self.queue else f"task/{self.id}"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All tasks and queues found in a project, with the hash of the code they came from."""

    protocol: int = PROTOCOL
    python: str
    content_hash: str
    tasks: list[TaskDefinition]
    queues: list[QueueDefinition] = []


def digest(manifest: Manifest) -> str:
    """Equal manifests have equal digests, whatever order their tasks were found in."""
    ordered = msgspec.structs.replace(
        manifest, tasks=sorted(manifest.tasks, key=lambda t: t.id), queues=sorted(manifest.queues, key=lambda q: q.name)
    )
    return hashlib.sha256(msgspec.json.encode(ordered, order="deterministic")).hexdigest()
