"""Bulk actions: one cancel or replay of many runs, done in steps."""

from __future__ import annotations

from typing import Literal

import msgspec

BulkType = Literal["CANCEL", "REPLAY"]


class BulkAction(msgspec.Struct, frozen=True, kw_only=True):
    """`filter` and `run_ids` are JSON; with `undo_of` it takes back what that action did and has not run. `cursor` is the last run done."""

    id: str
    env_id: int
    type: BulkType
    name: str | None = None
    status: Literal["PENDING", "COMPLETED", "ABORTED"] = "PENDING"
    filter: str | None = None
    run_ids: str | None = None
    undo_of: str | None = None
    cursor: str | None = None
    total: int
    success: int = 0
    failure: int = 0
    created_at: int
    completed_at: int | None = None


class Target(msgspec.Struct, frozen=True):
    """A run, and what a replay of it must know before it is locked."""

    run_id: str
    task: str
    queue: str
    concurrency_key: str | None


class StartBulk(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    type: BulkType
    total: int
    name: str | None = None
    filter: str | None = None
    run_ids: str | None = None
    undo_of: str | None = None


class StepBulk(msgspec.Struct, frozen=True, kw_only=True):
    """The next runs of an action, found behind `cursor`; none: it is done."""

    env_id: int
    bulk_id: str
    work_id: str
    cursor: str | None
    targets: list[Target]


class AbortBulk(msgspec.Struct, frozen=True, kw_only=True):
    env_id: int
    bulk_id: str
