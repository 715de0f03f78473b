"""An engine under a fake clock on a real database, and the few verbs the tests speak in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from outlast.engine import attempts, control, sessions, triggers
from outlast.engine.claim import Claimed, Demand
from outlast.engine.clock import Chance
from outlast.engine.engine import Engine
from outlast.engine.upkeep import Upkeep
from outlast.engine.view import Told
from outlast.model.failure import Failure
from outlast.model.manifest import Manifest, QueueDefinition, TaskDefinition
from outlast.model.refusal import Refusal
from outlast.model.requests import Cancel, Complete, Completed, GiveBack, Lose, OpenSession, Trigger
from outlast.model.result import Result, encode_failure
from outlast.model.run import Run, RunData
from outlast.store import catalog, check, events, lanes, runs
from outlast.store.database import Database
from outlast.store.migrate import migrate
from outlast.store.postgres import Postgres
from outlast.store.sqlite import Sqlite
from tests.databases import Address

START = 1_800_000_000_000


class FakeClock:
    def __init__(self, at: int = START) -> None:
        self.at = at
        self.back_ms = 0  # how far the world's clock was set back, since which this server's goes on as it was

    def now(self) -> int:
        return self.at

    def wall(self) -> int:
        return self.at - self.back_ms

    def advance(self, *, seconds: float) -> None:
        self.at += round(seconds * 1_000)


class House:
    """One server without its HTTP and channel: what it claims lands in `claimed`, what it tells workers in `told`."""

    def __init__(self, engine: Engine, clock: FakeClock, env_id: int) -> None:
        self.engine = engine
        self.clock = clock
        self.env_id = env_id
        self.upkeep = Upkeep(engine)
        self.claimed: list[Claimed] = []
        self.told: list[Told] = []
        self.free = 0
        self.session = ""
        self.version = ""
        self.kind: Any = "async"
        engine.deliver = self._deliver
        engine.tell = self.told.extend
        engine.demand = self._demand

    def _demand(self) -> list[Demand]:
        if not self.session:
            return []
        return [Demand(self.env_id, self.session, self.version, "x1", self.kind, self.free)]

    def _deliver(self, claimed: list[Claimed]) -> None:
        self.claimed += claimed
        self.free -= len(claimed)

    async def work(
        self, *tasks: TaskDefinition | str, queues: Sequence[QueueDefinition] = (), hash: str = "1", promote: bool = True
    ) -> str:
        """A worker that has these tasks says hello."""
        definitions = [t if isinstance(t, TaskDefinition) else TaskDefinition(id=t) for t in tasks]
        manifest = Manifest(python="3.11", content_hash=hash, tasks=definitions, queues=list(queues))
        item = OpenSession(env_id=self.env_id, server_id="s1", worker="w1", boot_id="b1", manifest=manifest, promote=promote)
        opened = await self.engine.call(sessions.open_session, item)
        self.session, self.version = opened.session, opened.version
        await self.upkeep.work()
        return opened.version

    async def trigger(self, task: str = "t", **options: Any) -> str:
        answer = await self.engine.call(triggers.trigger, Trigger(env_id=self.env_id, task=task, **options))
        assert not isinstance(answer, Refusal), answer
        return answer.run_id

    async def claim(self, n: int = 1) -> list[Claimed]:
        """What a worker with `n` free slots is given now."""
        before = len(self.claimed)
        self.free = n
        # a flush claims at most 200, and says when there is more
        while True:
            have = len(self.claimed)
            self.engine.wake()
            await self.engine.call(attempts.append_logs, _NO_LOGS)
            if len(self.claimed) == have or self.free <= 0:
                break
        self.free = 0
        return self.claimed[before:]

    async def end(self, c: Claimed | Run, outcome: Any = "ok", **fields: Any) -> Completed | Refusal:
        run = c.run if isinstance(c, Claimed) else c
        if outcome not in ("ok", "cancelled") and "error" not in fields:
            fields["error"] = encode_failure(Failure(name="ValueError", message="no"))
        result = Result(epoch=run.epoch, attempt=run.attempt, outcome=outcome, **fields)
        return await self.engine.call(attempts.complete, Complete(run_id=run.id, session=self.session, result=result))

    async def lose(self, c: Claimed, *, started: bool = True, stalled: bool = False) -> Run | Refusal:
        return await self.engine.call(attempts.lose, Lose(run_id=c.run.id, epoch=c.run.epoch, started=started, stalled=stalled))

    async def give_back(self, c: Claimed, reason: str = "not_started") -> Run | Refusal:
        return await self.engine.call(attempts.give_back, GiveBack(run_id=c.run.id, epoch=c.run.epoch, reason=reason))

    async def cancel(self, run_id: str) -> Run | Refusal:
        return await self.engine.call(control.cancel, Cancel(env_id=self.env_id, run_id=run_id))

    async def run(self, run_id: str) -> Run:
        return (await self.engine.read(lambda tx: runs.read(tx, [run_id])))[0]

    async def data(self, run_id: str) -> RunData:
        return (await self.engine.read(lambda tx: runs.data(tx, [run_id])))[run_id]

    async def history(self, run_id: str) -> list[str]:
        return [kind for _, kind, _, _ in await self.engine.read(lambda tx: events.history(tx, run_id))]

    async def counts(self, queue: str) -> tuple[int, int]:
        """(running, queued)"""
        found = await self.engine.read(lambda tx: catalog.queue(tx, self.env_id, name=queue))
        assert found is not None
        return (await self.engine.read(lambda tx: lanes.counts(tx, [found.id]))).get(found.id, (0, 0))

    async def later(self, *, seconds: float) -> None:
        """Time passes and upkeep does what is due."""
        self.clock.advance(seconds=seconds)
        await self.upkeep.timers()
        await self.upkeep.work()

    async def assert_sound(self) -> None:
        """The invariants that can be read from the database."""
        assert [str(v) for v in await self.engine.read(check.whole)] == []


def _no_logs() -> Any:
    from outlast.model.requests import AppendLogs

    return AppendLogs(lines=[])


_NO_LOGS = _no_logs()


def open_store(address: Address) -> Database:
    if address.is_postgres:
        return Postgres(address.url, schema=address.schema)
    from pathlib import Path

    path = Path(address.url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return Sqlite(path)


@asynccontextmanager
async def open_house(
    address: Address, *, env: str = "PRODUCTION", limit: int = 1_000, burst: float = 1.0, clock: FakeClock | None = None, seed: int = 7
) -> AsyncIterator[House]:
    clock = clock or FakeClock()
    database = open_store(address)
    migrate(database)
    with database.transaction() as tx:
        catalog.add_environment(tx, id=1, slug="e1", type=env, limit=limit, burst=burst, signing_secret="s", now=clock.now())
        catalog.add_environment(tx, id=2, slug="e2", type=env, limit=limit, burst=burst, signing_secret="s", now=clock.now())
    engine = Engine(database, clock=clock, chance=Chance(seed), poll_ms=3_600_000)
    await engine.start()
    try:
        yield House(engine, clock, 1)
    finally:
        await engine.close()
