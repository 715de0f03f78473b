"""A scheduled task in an engine under a fake clock, and what its schedule did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from outlast.engine import schedules
from outlast.model import payload as packets
from outlast.model.flow import ActivateSchedule, Backfill, SaveSchedule
from outlast.model.manifest import ScheduleDefinition, TaskDefinition
from outlast.model.refusal import Refusal
from outlast.model.schedule import Schedule, Tick
from outlast.store import schedules as store
from tests.engine.house import House

HOUR = 3_600
MONDAY = round(datetime(2027, 1, 4, tzinfo=UTC).timestamp() * 1_000)


def scheduled(task: str = "t", cron: str | None = None, **options: Any) -> TaskDefinition:
    return TaskDefinition(id=task, scheduled=True, schedule=ScheduleDefinition(cron=cron, **options) if cron else None)


async def save(house: House, cron: str = "0 * * * *", **options: Any) -> Schedule:
    item = SaveSchedule(env_id=house.env_id, task=options.pop("task", "t"), cron=cron, **options)
    made = await house.engine.call(schedules.save_schedule, item)
    assert not isinstance(made, Refusal), made
    return made


async def look(house: House, schedule_id: str) -> Schedule:
    found = await house.engine.read(lambda tx: store.one(tx, house.env_id, schedule_id))
    assert found is not None
    return found


async def activate(house: House, schedule_id: str, active: bool, reason: str | None = None) -> Schedule | Refusal:
    item = ActivateSchedule(env_id=house.env_id, schedule_id=schedule_id, active=active, reason=reason)
    return await house.engine.call(schedules.activate_schedule, item)


async def backfill(house: House, s: Schedule, after: int, until: int) -> int:
    item = Backfill(env_id=house.env_id, schedule_id=s.id, after=after, until=until)
    count = await house.engine.call(schedules.backfill, item)
    assert not isinstance(count, Refusal), count
    while await house.upkeep.work():
        pass
    return count


async def tick(house: House, *, hours: float = 0, minutes: float = 0) -> int:
    """Time passes, and upkeep looks at schedules; how many runs it made."""
    house.clock.advance(seconds=hours * HOUR + minutes * 60)
    made = await house.upkeep.schedules()
    await house.upkeep.work()
    return made


async def ticks(house: House, s: Schedule) -> list[Tick]:
    """Oldest first."""
    return (await house.engine.read(lambda tx: store.ticks(tx, s.id, 10_000)))[::-1]


async def payload(house: House, run_id: str) -> dict[str, Any]:
    data = await house.data(run_id)
    return packets.decode(data.payload, data.payload_type)


def hour(n: float) -> int:
    """So many hours after Monday midnight."""
    return MONDAY + round(n * HOUR * 1_000)
