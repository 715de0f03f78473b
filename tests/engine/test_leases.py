"""Leases: over only when the worker could have renewed them."""

from __future__ import annotations

from outlast.engine import sessions
from outlast.engine.upkeep import Upkeep
from outlast.model.requests import Beats
from outlast.model.run import Execution
from tests.databases import Address
from tests.engine.house import FakeClock, House, open_house


async def executes(house: House, run_id: str) -> bool:
    return (await house.run(run_id)).execution is Execution.EXECUTING


async def test_point_19_the_time_without_a_server_counts_for_no_lease(house: House) -> None:
    """A worker that died before the servers did is still found as soon as it would have been."""
    await house.work("t", hash="1")
    lost, dead = await house.trigger(), house.session
    await house.claim()
    house.clock.advance(seconds=25)
    await house.work("t", hash="1")
    kept = await house.trigger()
    await house.claim()
    upkeep = Upkeep(house.engine)
    assert await house.upkeep.sessions() == 0
    house.clock.advance(seconds=100)  # no server, or no database
    await upkeep.give_back_time()
    await upkeep.give_back_time()  # by another server: nothing more to give
    assert await upkeep.sessions() == 0
    house.clock.advance(seconds=4)
    assert await upkeep.sessions() == 0
    house.clock.advance(seconds=2)
    assert await upkeep.sessions() == 1
    assert (await executes(house, lost), await executes(house, kept)) == (False, True)
    assert dead != house.session
    house.clock.advance(seconds=10)
    assert not await house.engine.call(sessions.beat, Beats(session=house.session))  # it has come back, and is told nothing bad


async def test_servers_that_come_or_come_back_beside_others_keep_no_dead_worker_alive(house: House) -> None:
    """Each gave its own time back: with one killed every 25 seconds a dead worker was found after 48, with some standing still after 89."""
    await house.work("t", hash="1")
    run_id = await house.trigger()
    await house.claim()
    for _ in range(8):
        assert await house.upkeep.sessions() == 0
        house.clock.advance(seconds=4)
        await Upkeep(house.engine).give_back_time()
    assert await house.upkeep.sessions() == 1
    assert not await executes(house, run_id)


async def test_the_time_without_a_database_is_given_back_once(house: House) -> None:
    """By the server that notices first."""
    await house.work("t", hash="1")
    run_id = await house.trigger()
    await house.claim()
    for seconds in (0, 20, 10, 10, 9, 2):  # half a minute and a second: 20 do not count
        house.clock.advance(seconds=seconds)
        assert await executes(house, run_id)
        lost = [await Upkeep(house.engine).sessions() for _ in range(3)]
    assert lost == [1, 0, 0]
    assert not await executes(house, run_id)


async def test_point_27_a_clock_that_is_set_back_ends_no_lease_and_hides_no_death(house: House, address: Address) -> None:
    """A server that lived through it goes on by its own time; one that starts afterwards has the world's, and so have leases."""
    await house.work("t")
    dead = await house.trigger()
    await house.claim()
    await house.upkeep.sessions()
    house.clock.back_ms = 90_000
    async with open_house(address, clock=FakeClock(house.clock.wall()), seed=8) as newer:
        await newer.work("t")
        living = await newer.trigger()
        await newer.claim()
        lost: list[int] = []
        for _ in range(8):  # in all half a minute and two seconds
            lost.append(await house.upkeep.sessions())
            house.clock.advance(seconds=4)
            newer.clock.advance(seconds=4)
            await newer.engine.call(sessions.beat, Beats(session=newer.session))
        assert (sum(lost), await house.upkeep.sessions()) == (0, 1)
        assert (await executes(house, dead), await executes(house, living)) == (False, True)


async def test_point_27_a_clock_that_is_set_twice_ends_no_lease(house: House) -> None:
    """Between two looks of a server, and leases were renewed in between."""
    await house.work("t")
    run_id = await house.trigger()
    await house.claim()
    await house.upkeep.sessions()
    house.clock.back_ms = 90_000
    await house.engine.call(sessions.beat, Beats(session=house.session))
    house.clock.back_ms = -3_600_000
    assert await house.upkeep.sessions() == 0
    assert await executes(house, run_id)


async def test_point_27_a_clock_that_jumps_ends_no_lease_at_once(house: House) -> None:
    await house.work("t")
    run_id = await house.trigger()
    await house.claim()
    await house.upkeep.sessions()
    house.clock.advance(seconds=3_600)
    assert await house.upkeep.sessions() == 0
    assert await executes(house, run_id)
    house.clock.advance(seconds=11)
    await house.engine.call(sessions.beat, Beats(session=house.session))
    house.clock.advance(seconds=11)
    assert await house.upkeep.sessions() == 0
    assert await executes(house, run_id)
