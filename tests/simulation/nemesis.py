"""Who makes the trouble: kills, stops, freezes, cuts, and moves the clock; then makes peace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulation.database import Trouble
from tests.simulation.network import Weather

if TYPE_CHECKING:
    from tests.simulation.nodes import Server, Worker
    from tests.simulation.world import World

CLOCK_SECONDS = 8.0  # between two settings: a clock set there and back between two looks of upkeep was never seen to move


class Nemesis:
    def __init__(self, world: World) -> None:
        self.world = world
        self._clock_moved = -CLOCK_SECONDS

    async def run(self, seconds: float) -> None:
        world = self.world
        until = world.loop.time() + seconds
        while True:
            pause = world.chance.expovariate(1 / world.plan.trouble_seconds)
            if not world.plan.troubles or world.loop.time() + pause > until:
                await asyncio.sleep(max(0.0, until - world.loop.time()))
                return
            await asyncio.sleep(pause)
            name = world.chance.choice(world.plan.troubles)
            world.say(f"nemesis: {name}")
            world.report.troubles += 1
            getattr(self, name)()

    def make_peace(self) -> None:
        """Nothing breaks any more, and there is somebody to do the work."""
        world = self.world
        world.say("peace")
        world.is_calm = True
        world.network.weather = Weather()
        calm = Trouble()
        for name in Trouble.__slots__:
            setattr(world.trouble, name, getattr(calm, name))
        world.plan.http_lost = world.plan.http_twice = 0.0
        for node in (*world.servers, *world.workers):
            if node.node.frozen:
                node.node.thaw()
        self._recover()

    def _recover(self) -> None:
        world = self.world
        world.servers = [server for server in world.servers if server.node.alive and not server.is_leaving]
        world.workers = [worker for worker in world.workers if worker.node.alive and not worker.is_leaving]
        while len(world.servers) < world.plan.servers:
            world.start_server()
        if world.is_calm:
            # a run that has begun needs its version: somebody must have it
            for hash in sorted(world.versions - {worker.hash for worker in world.workers}):
                world.start_worker(hash)

    def _later(self, seconds: float, what: object, *args: object) -> None:
        self.world.loop.call_later(self.world.chance.uniform(0.2, seconds), what, *args)  # type: ignore[arg-type]

    def _server(self) -> Server | None:
        alive = [server for server in self.world.servers if server.node.alive]
        return self.world.chance.choice(alive) if alive else None

    def _worker(self) -> Worker | None:
        alive = [worker for worker in self.world.workers if worker.node.alive]
        return self.world.chance.choice(alive) if alive else None

    # ---- troubles

    def kill_server(self) -> None:
        if (server := self._server()) is not None:
            server.node.crash()
            self._later(10.0, self._recover)

    def stop_server(self) -> None:
        if (server := self._server()) is not None:
            server.stop()
            self._later(10.0, self._recover)

    def unlist_server(self) -> None:
        """The balancer leads to it no more; its connections live on."""
        if (server := self._server()) is not None:
            self.world.servers.remove(server)
            self._later(10.0, self._recover)

    def kill_worker(self) -> None:
        if (worker := self._worker()) is not None:
            worker.node.crash()
            self._later(10.0, self._replace_worker)

    def stop_worker(self) -> None:
        if (worker := self._worker()) is not None:
            worker.stop()
            self._later(10.0, self._replace_worker)

    def _replace_worker(self) -> None:
        world = self.world
        world.workers = [worker for worker in world.workers if worker.node.alive]
        if len(world.workers) < world.plan.workers:
            world.start_worker(world.chance.choice([w.hash for w in world.workers] or ["1"]))

    def kill_executor(self) -> None:
        worker = self._worker()
        alive = [x.node for x in worker.executors if x.node is not None and x.node.alive] if worker is not None else []
        if alive:
            self.world.chance.choice(alive).crash()

    def freeze_worker(self) -> None:
        if (worker := self._worker()) is not None and not worker.node.frozen:
            worker.node.freeze()
            self.world.loop.call_later(self.world.chance.choice((5.0, 33.0, 45.0, 80.0)), self._thaw_worker, worker)

    def _thaw_worker(self, worker: Worker) -> None:
        """Its processes go on in any order: executors may speak before their supervisor sees that its lease is over."""
        if self.world.chance.random() < 0.7:
            for executor in worker.executors:
                if executor.node is not None:
                    executor.node.thaw()
        self.world.loop.call_later(self.world.chance.uniform(0.0, 1.0), worker.node.thaw)

    def freeze_server(self) -> None:
        if (server := self._server()) is not None and not server.node.frozen:
            server.node.freeze()
            self.world.loop.call_later(self.world.chance.choice((2.0, 12.0, 40.0)), server.node.thaw)

    def partition(self) -> None:
        server, worker = self._server(), self._worker()
        if server is not None and worker is not None:
            self.world.network.partition(worker.node.name, server.node.name, self.world.chance.choice((3.0, 20.0, 60.0)))

    def isolate(self) -> None:
        """A worker reaches no server, for longer than its lease at times; its code runs on."""
        if (worker := self._worker()) is not None:
            self.world.network.isolate(worker.node.name, self.world.chance.choice((20.0, 45.0, 80.0, 80.0)))

    def stall(self) -> None:
        """Some connections stand still while others work: what was sent arrives late, and much has happened meanwhile."""
        self.world.network.stall_some(self.world.chance.choice((0.2, 0.6)), self.world.chance.choice((5.0, 35.0, 70.0)))

    def reset(self) -> None:
        self.world.network.reset_some(self.world.chance.choice((0.2, 1.0)))

    def deploy(self) -> None:
        """Workers of a new version come, and one of the old leaves."""
        world = self.world
        world.start_worker(str(world.chance.randrange(2, 5)))
        if len(world.workers) > world.plan.workers:
            world.workers[0].stop()

    def database_away(self) -> None:
        world = self.world
        world.trouble.away = True
        self._later(15.0, self._database_back)

    def _database_back(self) -> None:
        self.world.trouble.away = False

    def clock_forward(self) -> None:
        self._move_clock(self.world.chance.choice((10_000, 90_000, 3_600_000)))

    def clock_back(self) -> None:
        self._move_clock(-self.world.chance.choice((10_000, 90_000)))

    def _move_clock(self, ms: int) -> None:
        now = self.world.loop.time()
        if now - self._clock_moved >= CLOCK_SECONDS:
            self._clock_moved = now
            self.world.clock_offset += ms
