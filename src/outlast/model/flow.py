"""What the engine is asked about schedules, queues and flow: one struct an operation."""

from __future__ import annotations

import msgspec

from outlast.model.schedule import CatchUp, Overlap


class Admit(msgspec.Struct, frozen=True, kw_only=True):
    """A run that held a gate is over."""

    work_id: str
    env_id: int
    name: str


class RateOpens(msgspec.Struct, frozen=True, kw_only=True):
    """A timer of a rate: `ref` begins with the environment."""

    ref: str
    due_at: int


class SaveSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """Create (by its deduplication key, or anew) or update (by its id). Checked at the edge."""

    env_id: int
    task: str
    cron: str
    timezone: str = "UTC"
    deduplication_key: str | None = None
    schedule_id: str | None = None
    external_id: str | None = None
    window: str | None = None
    overlap: Overlap = "allow"
    catch_up: CatchUp = "none"


class ActivateSchedule(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    schedule_id: str
    active: bool
    reason: str | None = None


class DeleteSchedule(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    schedule_id: str


class Fire(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule's time has come; looked at again under its lock."""

    env_id: int
    schedule_id: str
    task: str


class Backfill(msgspec.Struct, frozen=True, kw_only=True):
    """Make the runs of past times, in (after, until]; those that were decided already are left as they are."""

    env_id: int
    schedule_id: str
    after: int
    until: int
    work_id: str | None = None  # None: begin


class PauseQueue(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    queue_id: int
    paused: bool


class OverrideLimit(msgspec.Struct, frozen=True, kw_only=True):
    """`limit` None takes the override back."""

    env_id: int
    queue_id: int
    limit: int | None
    by: str | None = None


class PauseEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    paused: bool


class ReopenQueue(msgspec.Struct, frozen=True, kw_only=True):
    """The queue's limit changed in code: look again which of its lanes have room."""

    env_id: int
    queue_id: int
    work_id: str
