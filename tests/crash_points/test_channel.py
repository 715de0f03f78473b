"""What the simulation found at the channel, each in a few lines: a real channel and engine, a worker that is only its messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import pytest

from outlast.engine import control, sessions
from outlast.model.limits import CANCEL_GRACE_MS
from outlast.model.manifest import PROTOCOL, Manifest, TaskDefinition
from outlast.model.messages import (
    Attach,
    Attached,
    Beat,
    BeatOk,
    Blocked,
    CancelPush,
    FromWorker,
    Hello,
    Join,
    Joined,
    Lost,
    Refused,
    SessionLost,
    ToWorker,
    Welcome,
)
from outlast.model.requests import Cancel, CloseSession
from outlast.model.run import Execution
from outlast.server.channel import Channel
from outlast.server.connected import ConnectionClosed
from tests.databases import Address
from tests.engine.house import House, open_house

T = TypeVar("T")
MANIFEST = Manifest(python="3.11", content_hash="1", tasks=[TaskDefinition(id="t")], queues=[])


class Wire:
    """A connection of a worker: what it says, and what it is told."""

    def __init__(self, channel: Channel, env_id: int | None) -> None:
        self._said: asyncio.Queue[list[FromWorker] | None] = asyncio.Queue()
        self._told: asyncio.Queue[ToWorker] = asyncio.Queue()
        self.serving = asyncio.create_task(channel.serve(self, env_id))

    def say(self, message: FromWorker) -> None:
        self._said.put_nowait([message])

    async def ask(self, message: FromWorker, answer: type[T]) -> T:
        self.say(message)
        return await self.told(answer)

    async def told(self, kind: type[T]) -> T:
        async with asyncio.timeout(30):
            while not isinstance(found := await self._told.get(), kind):
                pass
            return found

    def hang_up(self) -> None:
        self._said.put_nowait(None)

    # ---- as the channel has it

    async def send(self, messages: Sequence[ToWorker]) -> None:
        for message in messages:
            self._told.put_nowait(message)

    async def receive(self) -> list[FromWorker]:
        frame = await self._said.get()
        if frame is None:
            raise ConnectionClosed
        return frame

    async def close(self) -> None:
        return


class Office:
    """A house with a channel. What is claimed reaches nobody: its frames are lost."""

    def __init__(self, house: House) -> None:
        self.house = house
        demand, deliver = house.engine.demand, house.engine.deliver
        self.channel = Channel(house.engine, server_id="s1")
        house.engine.demand, house.engine.deliver = demand, deliver
        self.session = ""

    async def worker(self) -> tuple[Wire, Wire]:
        supervisor, executor = Wire(self.channel, 1), Wire(self.channel, None)
        welcome = await supervisor.ask(Hello(PROTOCOL, "w1", "b1", MANIFEST, True), Welcome)
        self.house.session, self.house.version = welcome.session, welcome.version
        await executor.ask(Join(welcome.session, "x1", welcome.token, []), Joined)
        return supervisor, executor

    async def execution(self, run_id: str) -> Execution:
        return (await self.house.run(run_id)).execution


@pytest.fixture
async def office(address: Address) -> AsyncIterator[Office]:
    async with open_house(address) as house:
        made = Office(house)
        yield made
        await house.assert_sound()


async def beat(wire: Wire, n: int, *executors: str) -> None:
    assert (await wire.ask(Beat(n, 0, dict.fromkeys(executors, 0.0), {}), BeatOk)).n == n


async def test_point_40_a_cancel_whose_word_was_lost_is_told_with_the_next_refusal(office: Office) -> None:
    supervisor, executor = await office.worker()
    office.house.engine.tell = office.house.told.extend  # not the worker
    run_id = await office.house.trigger()
    [claimed] = await office.house.claim()
    await office.house.engine.call(control.cancel, Cancel(run_id=run_id, env_id=1, reason="no need"))
    word = await executor.ask(Blocked(1, run_id, claimed.run.epoch, 1, 0), CancelPush)
    assert word == CancelPush(run_id, claimed.run.epoch, CANCEL_GRACE_MS)
    assert (await executor.told(Refused)).code == "run_cancelled"
    supervisor.hang_up()
    executor.hang_up()
    await asyncio.gather(supervisor.serving, executor.serving)


async def test_point_7_a_claim_that_nobody_heard_of_is_given_back_after_two_beats(office: Office) -> None:
    """Its commit was unknown, or its frame lost; the session lives on, so no lease would ever tell."""
    supervisor, executor = await office.worker()
    run_id = await office.house.trigger()
    assert len(await office.house.claim()) == 1
    await beat(supervisor, 1, "x1")
    assert await office.execution(run_id) is Execution.EXECUTING  # it may be on its way
    await beat(supervisor, 2, "x1")
    await office.house.engine.call(sessions.beat, sessions.Beats(session=office.house.session))
    assert (await office.house.run(run_id)).deliveries == 1
    supervisor.hang_up()
    executor.hang_up()
    await asyncio.gather(supervisor.serving, executor.serving)


async def test_point_9_a_loss_that_was_told_and_not_written_down_is_found_at_the_beats(office: Office) -> None:
    """The executor is not among the living any more, and nobody says so again."""
    supervisor, executor = await office.worker()
    run_id = await office.house.trigger()
    await office.house.claim()
    executor.hang_up()
    await executor.serving
    for n in (1, 2):
        await beat(supervisor, n, "x2")
    await office.house.engine.call(sessions.beat, sessions.Beats(session=office.house.session))
    assert (await office.house.run(run_id)).losses == 1
    supervisor.hang_up()
    await supervisor.serving


async def test_point_9_an_executor_that_died_is_lost_at_once_and_its_run_queued(office: Office) -> None:
    supervisor, executor = await office.worker()
    run_id = await office.house.trigger()
    await office.house.claim()
    supervisor._said.put_nowait([Lost("x1", -9)])  # pyright: ignore[reportPrivateUsage]
    await beat(supervisor, 1, "x2")
    assert (await office.execution(run_id), (await office.house.run(run_id)).losses) == (Execution.QUEUED, 1)
    supervisor.hang_up()
    executor.hang_up()
    await asyncio.gather(supervisor.serving, executor.serving)


async def test_point_18_executors_follow_their_supervisor_to_another_server(office: Office) -> None:
    supervisor, executor = await office.worker()
    supervisor.hang_up()
    await supervisor.serving
    assert "not connected here" in (await executor.told(SessionLost)).reason
    executor.hang_up()
    await executor.serving
    back = Wire(Channel(office.house.engine, server_id="s2"), 1)
    await back.ask(Attach(office.house.session), Attached)
    back.hang_up()
    await back.serving


async def test_point_16_a_closed_session_is_given_nothing(office: Office) -> None:
    """Upkeep closed it here or elsewhere while it was still connected: what it began would be lost at once."""
    supervisor, executor = await office.worker()
    await office.house.engine.call(sessions.close_session, CloseSession(session=office.house.session))
    run_id = await office.house.trigger()
    assert await office.house.claim() == []
    assert await office.execution(run_id) is Execution.QUEUED
    assert isinstance(await supervisor.ask(Beat(1, 0, {"x1": 0.0}, {}), SessionLost), SessionLost)
    supervisor.hang_up()
    executor.hang_up()
    await asyncio.gather(supervisor.serving, executor.serving)
