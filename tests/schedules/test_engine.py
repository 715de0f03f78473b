"""What a schedule does when its time comes: behaviours 156 to 162."""

from __future__ import annotations

import asyncio

from outlast.engine import schedules
from outlast.model.flow import DeleteSchedule, Fire, SaveSchedule
from outlast.model.refusal import Refusal
from outlast.model.run import Status
from outlast.model.schedule import moment
from tests.databases import Address
from tests.engine.house import FakeClock, House, open_house
from tests.schedules.house import MONDAY, activate, backfill, hour, look, payload, save, scheduled, tick, ticks


async def test_b160_the_payload_names_its_times(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "0 9 * * MON", timezone="Europe/Paris", external_id="user_7", deduplication_key="k")
    assert s.next_at == hour(8)
    assert await tick(house, hours=7.9) == 0
    assert await tick(house, hours=0.15) == 1
    [first] = await ticks(house, s)
    assert first.run_id is not None
    said = await payload(house, first.run_id)
    assert said["timestamp"] == moment(hour(8)) and "lastTimestamp" not in said
    assert said["upcoming"] == [moment(hour(8 + 168 * n)) for n in range(1, 6)]
    assert (said["scheduleId"], said["externalId"], said["timezone"], said["type"]) == (s.id, "user_7", "Europe/Paris", "IMPERATIVE")
    await tick(house, hours=168)
    second = (await ticks(house, s))[1]
    assert second.run_id is not None
    assert (await payload(house, second.run_id))["lastTimestamp"] == moment(hour(8))


async def test_b156_each_time_counts_from_the_one_before_so_lateness_never_adds_up(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "*/10 * * * *")
    for _ in range(6):
        await tick(house, minutes=10.5)
    assert [t.nominal_at for t in await ticks(house, s)] == [hour(n / 6) for n in range(1, 7)]


async def test_b156_missed_times_are_not_made_up_for_and_what_is_only_late_fires(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "0 * * * *")
    assert await tick(house, hours=5.5) == 0, "five were missed"
    assert (await look(house, s.id)).next_at == hour(6)
    assert await tick(house, hours=0.5, minutes=4) == 1, "four minutes late are not missed"


async def test_catch_up_latest_fires_the_last_missed_time_however_late(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "0 * * * *", catch_up="latest")
    assert await tick(house, hours=5.5) == 1
    assert [t.nominal_at for t in await ticks(house, s)] == [hour(5)]


async def test_catch_up_all_fires_each_missed_time_of_the_last_day_in_order(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "0 * * * *", catch_up="all")
    house.clock.advance(seconds=5.5 * 3_600)
    assert await tick(house) == 5
    assert [t.nominal_at for t in await ticks(house, s)] == [hour(n) for n in range(1, 6)]
    house.clock.advance(seconds=100 * 3_600)
    made = 0
    while n := await tick(house):
        made += n
    assert made == 24, "a day is the bound"
    assert (await look(house, s.id)).next_at == hour(106)


async def test_b161_many_servers_make_one_run_for_a_time(address: Address) -> None:
    clock = FakeClock(MONDAY)
    async with open_house(address, clock=clock) as house:
        await house.work(scheduled())
        s = await save(house, "0 * * * *")
        item = Fire(env_id=1, schedule_id=s.id, task="t")
        if not address.is_postgres:  # one server on SQLite: its own flushes are what could meet
            clock.advance(seconds=3_700)
            made = await asyncio.gather(*(house.engine.call(schedules.fire, item) for _ in range(20)))
        else:
            async with open_house(address, clock=clock, seed=8) as second, open_house(address, clock=clock, seed=9) as third:
                clock.advance(seconds=3_700)
                engines = [h.engine for h in (house, second, third)] * 7
                made = await asyncio.gather(*(engine.call(schedules.fire, item) for engine in engines))
        assert sum(made) == 1
        assert [t.nominal_at for t in await ticks(house, s)] == [hour(1)]


async def test_overlap_skip_makes_no_run_while_the_last_is_not_over(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "0 * * * *", overlap="skip")
    assert await tick(house, hours=1) == 1
    [running] = await house.claim()
    assert await tick(house, hours=1) == 0
    await house.end(running)
    assert await tick(house, hours=1) == 1
    made = await ticks(house, s)
    assert [t.run_id is not None for t in made] == [True, False, True]
    assert made[1].reason == f"run {running.run.id} is not over yet"


async def test_overlap_queue_runs_one_after_the_other(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "0 * * * *", overlap="queue")
    for _ in range(3):
        assert await tick(house, hours=1) == 1
    ids = [t.run_id for t in await ticks(house, s)]
    for expected in ids:
        [running] = await house.claim(5)
        assert running.run.id == expected
        await house.end(running)
        await house.upkeep.work()
    assert await house.claim(5) == []


async def test_overlap_cancel_previous_lets_the_newest_run(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "0 * * * *", overlap="cancel_previous")
    await tick(house, hours=1)
    await tick(house, hours=1)
    first, second = [t.run_id for t in await ticks(house, s)]
    assert first is not None and second is not None
    assert (await house.run(first)).status is Status.CANCELED
    assert [c.run.id for c in await house.claim(5)] == [second]


async def test_b158_a_window_spreads_schedules_each_at_its_own_stable_place(house: House) -> None:
    await house.work(scheduled())
    made = [await save(house, "0 * * * *", window="30m", catch_up="latest", deduplication_key=f"k{n}") for n in range(40)]
    places = [(s.due_at or 0) - (s.next_at or 0) for s in made]
    assert all(0 <= place < 1_800_000 for place in places)
    assert len(set(places)) > 35 and max(places) - min(places) > 900_000
    await tick(house, hours=1.75)
    again = [await look(house, s.id) for s in made]
    assert [(s.due_at or 0) - (s.next_at or 0) for s in again] == places
    assert all(s.last_at == hour(1) and s.next_at == hour(2) for s in again)


async def test_b158_a_window_never_reaches_the_next_time_and_another_secret_moves_it(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "*/10 * * * *", window="24h", deduplication_key="k")
    half = await save(house, "*/10 * * * *", window="50%", deduplication_key="k2")
    assert 0 <= (s.due_at or 0) - (s.next_at or 0) < 600_000
    assert 0 <= (half.due_at or 0) - (half.next_at or 0) < 300_000
    from outlast.model.schedule import offset_ms

    assert offset_ms(s, 600_000, "s") != offset_ms(s, 600_000, "another secret")


async def test_b161_an_equal_key_updates_in_its_environment_only(house: House) -> None:
    await house.work(scheduled())
    first = await save(house, "0 * * * *", deduplication_key="k")
    again = await save(house, "30 * * * *", deduplication_key="k")
    assert again.id == first.id and again.next_at == hour(0.5) and again.revision == 2
    same = await save(house, "30 * * * *", deduplication_key="k")
    assert same == again
    other = await house.engine.call(
        schedules.save_schedule, SaveSchedule(env_id=2, task="t", cron="0 * * * *", deduplication_key="k")
    )  # fmt: skip
    assert not isinstance(other, Refusal) and other.id != first.id


async def test_b161_a_paused_schedule_says_why_and_sleeps_through_its_times(house: House) -> None:
    await house.work(scheduled())
    s = await save(house, "0 * * * *", catch_up="all")
    await activate(house, s.id, False, "vendor is down")
    assert (await look(house, s.id)).pause_reason == "vendor is down"
    assert await tick(house, hours=5) == 0
    await activate(house, s.id, True)
    found = await look(house, s.id)
    assert found.next_at == hour(6) and found.pause_reason is None
    assert await tick(house, hours=1) == 1


async def test_b161_a_deleted_schedule_fires_no_more(house: House) -> None:
    await house.work(scheduled())
    s = await save(house)
    assert await house.engine.call(schedules.delete_schedule, DeleteSchedule(env_id=1, schedule_id=s.id)) is True
    assert await tick(house, hours=2) == 0
    gone = await house.engine.call(schedules.delete_schedule, DeleteSchedule(env_id=1, schedule_id=s.id))
    assert isinstance(gone, Refusal) and gone.code == "not_found"


async def test_b170_another_environment_does_not_see_it(house: House) -> None:
    await house.work(scheduled())
    s = await save(house)
    for refused in (
        await house.engine.call(schedules.delete_schedule, DeleteSchedule(env_id=2, schedule_id=s.id)),
        await house.engine.call(schedules.save_schedule, SaveSchedule(env_id=2, task="t", cron="0 * * * *", schedule_id=s.id)),
    ):
        assert isinstance(refused, Refusal) and refused.code == "not_found"


async def test_declared_schedules_follow_the_code(house: House) -> None:
    from outlast.store import schedules as store

    async def declared() -> dict[str, tuple[str, int | None]]:
        found = await house.engine.read(lambda tx: store.declared(tx, house.env_id))
        return {task: (s.cron, s.next_at) for task, s in found.items()}

    await house.work(scheduled("a", "0 * * * *"), scheduled("b", "30 * * * *", environments=["STAGING"]))
    assert await declared() == {"a": ("0 * * * *", hour(1))}
    house.clock.advance(seconds=5_000)
    await house.work(scheduled("a", "0 * * * *"), scheduled("c", "15 * * * *"), hash="2")
    assert await declared() == {"a": ("0 * * * *", hour(1)), "c": ("15 * * * *", hour(2.25))}, "a: one that did not change keeps its time"
    await house.work(scheduled("a", "45 * * * *"), hash="3")
    assert await declared() == {"a": ("45 * * * *", hour(1.75))}
    s = (await house.engine.read(lambda tx: store.declared(tx, house.env_id)))["a"]
    refused = await activate(house, s.id, False)
    assert isinstance(refused, Refusal) and refused.code == "declarative"


async def test_a_task_that_is_not_in_the_current_version_is_not_fired_and_the_tick_says_so(house: House) -> None:
    await house.work(scheduled())
    s = await save(house)
    await house.work(scheduled("other"), hash="2")
    assert await tick(house, hours=1) == 0
    assert [t.reason for t in await ticks(house, s)] == ["the current version has no task 't'"]


async def test_in_development_nothing_fires_while_no_worker_is_connected(address: Address) -> None:
    from outlast.engine import sessions
    from outlast.model.requests import CloseSession

    async with open_house(address, env="DEVELOPMENT", clock=FakeClock(MONDAY)) as house:
        await house.work(scheduled())
        s = await save(house)
        await house.engine.call(sessions.close_session, CloseSession(session=house.session))
        assert await tick(house, hours=1) == 0
        await house.work(scheduled())
        assert await tick(house, hours=1) == 1
        assert [t.reason for t in await ticks(house, s)] == ["no worker was connected", None]


async def test_b14_a_full_queue_skips_a_firing(house: House) -> None:
    await house.work(scheduled())
    await house.engine.write(lambda tx: tx.execute("UPDATE environments SET max_queue_size = 1"))
    house.engine.catalog.forget()
    s = await save(house)
    assert await tick(house, hours=1) == 1
    assert await tick(house, hours=1) == 0
    reason = (await ticks(house, s))[1].reason
    assert reason is not None and "its maximum" in reason


async def test_a_backfill_makes_what_was_never_decided_and_nothing_twice(house: House) -> None:
    await house.work(scheduled())
    s = await save(house)
    assert await tick(house, hours=1) == 1
    await tick(house, hours=119.5)
    assert await backfill(house, s, hour(0), hour(120)) == 120
    assert await backfill(house, s, hour(0), hour(120)) == 120
    made = await ticks(house, s)
    assert [t.nominal_at for t in made] == [hour(n) for n in range(1, 121)]
    assert len({t.run_id for t in made}) == 120
    assert (await look(house, s.id)).next_at == hour(121)


async def test_a_backfill_of_too_many_times_is_refused(house: House) -> None:
    from outlast.model.flow import Backfill

    await house.work(scheduled())
    s = await save(house, "* * * * *")
    item = Backfill(env_id=1, schedule_id=s.id, after=hour(-24 * 30), until=hour(0))
    refused = await house.engine.call(schedules.backfill, item)
    assert isinstance(refused, Refusal) and refused.code == "limit_exceeded"
