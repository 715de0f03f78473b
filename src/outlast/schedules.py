"""`schedules`: tasks that are triggered by themselves, declared in code or made while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Unpack

from outlast.client import flow as requests
from outlast.client.answers import ScheduleState, Tick
from outlast.client.calls import Pages, call
from outlast.decorator import ScheduledTaskDecorator, TaskOptions, scheduled
from outlast.model import cron as crons
from outlast.model import schedule as model
from outlast.model.limits import MAX_PREVIEW
from outlast.model.schedule import CatchUp, Overlap
from outlast.pending import Pending
from outlast.scheduled import Cron, declared, read_payload


def task(*, cron: str | Cron | None = None, **options: Unpack[TaskOptions]) -> ScheduledTaskDecorator:
    """Make a function a task that is triggered by itself, by `cron` and by the schedules that are made for it.

    Raises:
        ConfigurationError: a pattern, zone, window or policy that cannot be.

    Example:
        >>> @task(id="reports.send.daily", cron=Cron("0 9 * * *", timezone="Europe/Paris", overlap="skip"))
        ... async def daily(payload: ScheduledPayload) -> None: ...
    """
    return scheduled(None if cron is None else declared(Cron(cron) if isinstance(cron, str) else cron), read_payload, **options)


def create(
    *,
    task: str,
    cron: str,
    deduplication_key: str,
    timezone: str = "UTC",
    external_id: str | None = None,
    window: str | None = None,
    overlap: Overlap = "allow",
    catch_up: CatchUp = "none",
) -> Pending[ScheduleState]:
    """Make a schedule of a scheduled task, or change the one this environment has under the key.

    Raises:
        ApiError: 422 for a pattern, zone, window or task that cannot be.
    """
    body = _body(task, cron, timezone, external_id, window, overlap, catch_up)
    return call("schedules.create(…)", requests.create_schedule({**body, "deduplicationKey": deduplication_key}))


def _body(task: str, cron: str, timezone: str, external_id: str | None, window: str | None, overlap: str, catch_up: str) -> dict[str, Any]:
    wire = {"task": task, "cron": cron, "timezone": timezone, "externalId": external_id, "window": window}
    return {name: value for name, value in {**wire, "overlap": overlap, "catchUp": catch_up}.items() if value is not None}


def update(
    schedule: str,
    *,
    task: str,
    cron: str,
    timezone: str = "UTC",
    external_id: str | None = None,
    window: str | None = None,
    overlap: Overlap = "allow",
    catch_up: CatchUp = "none",
) -> Pending[ScheduleState]:
    """Change a schedule, by its id; what is not given goes back to its default. Not for declared ones: change those in code."""
    return call(
        "schedules.update(…)", requests.update_schedule(schedule, _body(task, cron, timezone, external_id, window, overlap, catch_up))
    )


def retrieve(schedule: str) -> Pending[ScheduleState]:
    """A schedule by its id."""
    return call("schedules.retrieve(…)", requests.retrieve_schedule(schedule))


def list(*, page_size: int = 20) -> Pages[ScheduleState]:
    """All schedules of the environment, the newest first; fetched page by page."""
    return Pages(lambda page: requests.list_schedules(int(page or 1), page_size))


def activate(schedule: str) -> Pending[ScheduleState]:
    """Go on, with the next time from now."""
    return call("schedules.activate(…)", requests.activate_schedule(schedule, "activate", {}))


def deactivate(schedule: str, *, reason: str | None = None) -> Pending[ScheduleState]:
    """Pause it; `reason` is shown to whoever wonders."""
    return call("schedules.deactivate(…)", requests.activate_schedule(schedule, "deactivate", {"reason": reason} if reason else {}))


def delete(schedule: str) -> Pending[str]:
    """Delete it; its runs stay. Gives the id."""
    return call("schedules.delete(…)", requests.delete_schedule(schedule))


def timezones(*, exclude_utc: bool = False) -> Pending[Sequence[str]]:
    """The zones that may be used."""
    return call("schedules.timezones()", requests.timezones(exclude_utc))


def ticks(schedule: str, *, limit: int = 50) -> Pending[Sequence[Tick]]:
    """What was done at its last times: a run, or the reason why there is none."""
    return call("schedules.ticks(…)", requests.schedule_ticks(schedule, limit))


def upcoming(schedule: str, *, count: int = 10) -> Pending[Sequence[datetime]]:
    """Its next times."""
    return call("schedules.upcoming(…)", requests.schedule_upcoming(schedule, count))


def preview(cron: str, *, timezone: str = "UTC", count: int = 10) -> Sequence[datetime]:
    """The next times of a pattern; without a server.

    Raises:
        ValueError: a pattern or zone that cannot be.

    Example:
        >>> len(preview("0 9 * * MON-FRI", timezone="Europe/Paris", count=3))
        3
    """
    now = time.time_ns() // 1_000_000
    if not 1 <= count <= MAX_PREVIEW:
        raise ValueError(f"count must be 1 to {MAX_PREVIEW}, not {count}")
    times = crons.occurrences(crons.check_cron(cron, now), crons.check_zone(timezone), now)
    return [model.moment(next(times)) for _ in range(count)]


def backfill(schedule: str, *, start: datetime, end: datetime) -> Pending[int]:
    """Make the runs of past times in [start, end] that were never decided; gives how many times lie in the range.

    Raises:
        ApiError: 422 for a range in the future, or of more than 10,000 times.
    """
    return call("schedules.backfill(…)", requests.backfill_schedule(schedule, start, end))
