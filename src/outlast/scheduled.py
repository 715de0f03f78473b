"""What a schedule is declared by, and what its task is given."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

import msgspec

from outlast.errors import ConfigurationError
from outlast.model import cron as crons
from outlast.model import schedule as model
from outlast.model.manifest import ScheduleDefinition
from outlast.model.schedule import CatchUp, Overlap

EnvironmentType = Literal["DEVELOPMENT", "STAGING", "PREVIEW", "PRODUCTION"]


class Cron(msgspec.Struct, frozen=True):
    """When a task is triggered: five fields, in a time zone. No `environments`: in all.

    `window` spreads load: each schedule fires a stable while after its time, within "30m", or "50%" of the interval.
    `overlap` when the run before is not over: allow, skip, queue (one after the other) or cancel_previous.
    `catch_up` for times that were missed: none, latest, or all of the last day.

    Example:
        >>> Cron("0 9 * * MON-FRI", timezone="Europe/Paris", overlap="skip", catch_up="latest").pattern
        '0 9 * * MON-FRI'
    """

    pattern: str
    timezone: str = "UTC"
    environments: Sequence[EnvironmentType] = ()
    window: str | None = None
    overlap: Overlap = "allow"
    catch_up: CatchUp = "none"


@dataclass(frozen=True, kw_only=True)
class ScheduledPayload:
    """What a scheduled task is given. `timestamp` is the time it was planned for, `upcoming` the next five."""

    schedule_id: str
    type: Literal["DECLARATIVE", "IMPERATIVE"]
    timestamp: datetime
    timezone: str
    last_timestamp: datetime | None = None
    external_id: str | None = None
    upcoming: list[datetime] = field(default_factory=list[datetime])


def declared(cron: Cron) -> ScheduleDefinition:
    try:
        pattern = crons.check_cron(cron.pattern, time.time_ns() // 1_000_000)
        crons.check_zone(cron.timezone)
        window = None if cron.window is None else model.check_window(cron.window)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    for name, value, known in (("overlap", cron.overlap, model.OVERLAPS), ("catch_up", cron.catch_up, model.CATCH_UPS)):
        if value not in known:
            raise ConfigurationError(f"{name}={value!r}: use one of {', '.join(known)}")
    return ScheduleDefinition(
        cron=pattern, timezone=cron.timezone, environments=sorted(cron.environments), window=window, overlap=cron.overlap,
        catch_up=cron.catch_up,
    )  # fmt: skip


_FIELDS = {
    "scheduleId": "schedule_id",
    "lastTimestamp": "last_timestamp",
    "externalId": "external_id",
}


def read_payload(value: Any) -> ScheduledPayload:
    """The payload as the task sees it; it travels with Trigger.dev's names.

    Raises:
        ValueError: it is not one.
    """
    from pydantic import TypeAdapter

    if isinstance(value, Mapping):
        value = {_FIELDS.get(name, name): found for name, found in cast("Mapping[str, Any]", value).items()}
    return TypeAdapter(ScheduledPayload).validate_python(value)
