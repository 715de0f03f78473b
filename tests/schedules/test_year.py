"""A year of schedules on servers that die in the middle of a tick, with clocks that jump: each time has the runs its policies say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import takewhile

import pytest

from outlast import faults
from outlast.model import cron
from outlast.model.schedule import Schedule, effective_at
from tests.databases import Address
from tests.engine.house import FakeClock, House, open_house
from tests.schedules.house import MONDAY, save, scheduled, ticks

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
POINTS = ("write.requests", "write.runs", "write.timers", "write.lanes", "fire.before_commit", "fire.after_commit")
SCHEDULES = (
    {"cron": "0 */6 * * *", "timezone": "Europe/Paris", "catch_up": "all"},
    {"cron": "30 * * * *", "timezone": "Australia/Lord_Howe", "catch_up": "all", "window": "50%"},
    {"cron": "30 7 * * *", "timezone": "America/New_York", "catch_up": "latest", "window": "2h"},
    {"cron": "0 */3 * * *", "timezone": "Asia/Tokyo"},
    {"cron": "15 */4 * * *", "timezone": "America/Sao_Paulo", "catch_up": "latest", "overlap": "skip"},
    {"cron": "0 1,13 * * *", "timezone": "Europe/London", "catch_up": "latest", "overlap": "queue"},
    {"cron": "0 2-22/4 * * *", "timezone": "Pacific/Auckland", "catch_up": "latest", "overlap": "cancel_previous"},
)


class Died(BaseException):
    """The server is no more: nothing of it goes on."""


class Strike:
    """The first server that comes to the point dies there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.struck = False

    def __call__(self, name: str) -> bool:
        if name == self.name and not self.struck:
            self.struck = True
            raise Died
        return False


class Servers:
    """One server on SQLite, three on PostgreSQL; each has a clock of its own, and one that dies is replaced by another."""

    def __init__(self, address: Address) -> None:
        self.clocks = [FakeClock(MONDAY) for _ in range(3 if address.is_postgres else 1)]
        self.houses: list[House] = []
        self.deaths = 0
        self._address = address
        self._open: list[AbstractAsyncContextManager[House]] = []

    async def start(self, n: int) -> None:
        opened = open_house(self._address, clock=self.clocks[n], seed=self.deaths * 10 + n)
        house = await opened.__aenter__()
        if n == len(self.houses):
            self._open.append(opened)
            self.houses.append(house)
        else:
            self._open[n], self.houses[n] = opened, house

    async def tick(self, n: int) -> bool:
        """Whether the server lives on."""
        try:
            await self.houses[n].upkeep.schedules()
        except Died:
            self.deaths += 1
            await self._open[n].__aexit__(None, None, None)
            await self.start(n)
            return False
        return True

    async def close(self) -> None:
        for opened in self._open:
            await opened.__aexit__(None, None, None)


@asynccontextmanager
async def servers(address: Address) -> AsyncIterator[Servers]:
    found = Servers(address)
    for n in range(len(found.clocks)):
        await found.start(n)
    try:
        yield found
    finally:
        faults.hook = None
        await found.close()


@dataclass
class Expected:
    """What the policies say of one schedule, worked out from the list of all its nominal times."""

    s: Schedule
    left: list[int]
    done: dict[int, bool] = field(default_factory=dict[int, bool])  # nominal time → whether a run was made

    def look(self, now: int, *, is_busy: bool) -> None:
        due = [at for at in takewhile(lambda at: at <= now, self.left) if effective_at(self.s, at, "s") <= now]
        if not due:
            return
        match self.s.catch_up:
            case "all":
                fired = [at for at in due if at > now - DAY_MS][:20]  # twenty at once, the others stay due
            case "latest":
                fired = due[-1:]
            case "none":
                fired = [at for at in due[-1:] if now - effective_at(self.s, at, "s") <= 300_000]
        gone = fired[-1] if self.s.catch_up == "all" and fired else due[-1]
        del self.left[: self.left.index(gone) + 1]
        self.done |= dict.fromkeys(fired, not (is_busy and self.s.overlap == "skip"))


class Year:
    def __init__(self, servers: Servers, seed: int) -> None:
        self.servers = servers
        self.chance = random.Random(seed)
        self.at = MONDAY
        self.expected: list[Expected] = []

    @property
    def first(self) -> House:
        return self.servers.houses[0]

    async def begin(self, days: int) -> None:
        await self.first.work(scheduled())
        for options in SCHEDULES:
            s = await save(self.first, options["cron"], **{name: text for name, text in options.items() if name != "cron"})
            times = cron.between(s.cron, s.timezone, MONDAY, MONDAY + (days + 20) * DAY_MS, 1_000_000)
            self.expected.append(Expected(s, times))

    async def step(self, hours: int) -> None:
        """Time passes, each clock shows what it likes, and one server looks; or two at once, of which one may die on the way."""
        self.at += hours * HOUR_MS
        for clock in self.servers.clocks:
            clock.at = self.at + self.chance.choice([0, 0, 120_000, 120_000, -HOUR_MS, HOUR_MS])
        busy = await self.busy()
        n = self.chance.randrange(len(self.servers.houses))
        now = self.servers.clocks[n].now()
        strike = Strike(self.chance.choice(POINTS)) if self.chance.random() < 0.15 else None
        faults.hook = strike
        if len(self.servers.houses) > 1 and self.chance.random() < 0.2:
            other = (n + 1) % len(self.servers.houses)
            self.servers.clocks[other].at = now
            alive = await asyncio.gather(self.servers.tick(n), self.servers.tick(other))
        else:
            alive = [await self.servers.tick(n)]
        faults.hook = None
        committed = sum(alive) + (strike is not None and strike.struck and strike.name == "fire.after_commit")
        for e in self.expected:
            for _ in range(committed):  # the second finds what the first left: beyond twenty times at once
                e.look(now, is_busy=e.s.id in busy)
        await self.work(self.chance.choice([0, 1, 2, 20, 20]))

    async def busy(self) -> set[str]:
        """Schedules of which a run is under way; one that may not overlap has one at a time."""
        sql = (
            "SELECT s.id, s.overlap, count(*) FROM schedules s JOIN ticks t ON t.schedule_id = s.id AND t.nominal_at > :since"
            " JOIN runs r ON r.id = t.run_id WHERE r.status IN ('QUEUED', 'DEQUEUED', 'EXECUTING') GROUP BY s.id, s.overlap"
        )
        rows = await self.first.engine.read(lambda tx: tx.all(sql, since=self.at - 10 * DAY_MS))
        assert all(n == 1 for _, overlap, n in rows if overlap != "allow"), rows
        return {row[0] for row in rows}

    async def work(self, runs: int) -> None:
        """Workers take some runs and end them."""
        house = self.chance.choice(self.servers.houses)
        house.session, house.version = await self.session()
        for claimed in await house.claim(runs):
            await house.end(claimed)
        while await house.upkeep.work():
            pass

    async def session(self) -> tuple[str, str]:
        return (await self.first.engine.read(lambda tx: tx.all("SELECT id, version FROM sessions")))[0]

    async def end(self) -> None:
        for e in self.expected:
            made = {t.nominal_at: t.run_id for t in await ticks(self.first, e.s)}
            assert {at: run_id is not None for at, run_id in made.items()} == e.done, e.s
            assert len(set(made.values()) - {None}) == sum(e.done.values()), "each has a run of its own"
        [[runs]] = await self.first.engine.read(lambda tx: tx.all("SELECT count(*) FROM runs"))
        assert runs == sum(sum(e.done.values()) for e in self.expected), "and there are no others"
        for _ in range(50):
            await self.work(100)
        [[left]] = await self.first.engine.read(lambda tx: tx.all("SELECT count(*) FROM runs WHERE execution <> 'FINISHED'"))
        assert left == 0
        await self.first.assert_sound()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "outlast.engine")  # a failed flush is what is meant here


async def live(address: Address, days: int, seed: int) -> None:
    async with servers(address) as found:
        year = Year(found, seed)
        await year.begin(days)
        while year.at < MONDAY + days * DAY_MS:
            await year.step(3 if year.chance.random() < 0.96 else 3 * year.chance.randint(7, 20))  # now and then none of them is there
        assert found.deaths > days // 4
        await year.end()


async def test_a_week_of_crashes_and_jumping_clocks(address: Address) -> None:
    await live(address, 8, seed=1)


@pytest.mark.full
async def test_a_year_of_crashes_and_jumping_clocks(address: Address) -> None:
    await live(address, 365, seed=2)
