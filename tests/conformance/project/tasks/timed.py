"""A scheduled task, for schedules that are made from outside."""

from __future__ import annotations

from outlast import ScheduledPayload, schedules


@schedules.task(id="tick")
async def tick(payload: ScheduledPayload) -> str:
    return payload.schedule_id
