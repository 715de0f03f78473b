"""One seed: servers, workers, clients and a nemesis in one loop, until everything is over; and what must hold all the while."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from outlast import queues, tasks
from outlast.client import connection as connections
from outlast.client.address import Address
from outlast.client.connection import Connection as Client
from outlast.store import check
from outlast.store.database import Connection, Database
from tests.simulation import programs
from tests.simulation.database import SimulatedDatabase, looking
from tests.simulation.fresh import START_MS, fresh, leave
from tests.simulation.loop import Died, Node, Stuck, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.nodes import Server, Transport, Worker
from tests.simulation.plan import Plan, draw
from tests.simulation.programs import QUEUES, TASKS, Ledger

BOUND = 900.0  # seconds after the last trouble until everything must be over
CHECK_EVERY = 40  # commits; a broken row stays broken, so a rare look finds it too
MAX_STEPS = 3_000_000


class Broken(AssertionError):
    """An invariant does not hold. `python -m tests.simulation --seed N` shows how it came to that."""


@dataclass(slots=True)
class Report:
    seed: int
    plan: Plan
    commits: int = 0
    steps: int = 0
    virtual_seconds: float = 0.0
    troubles: int = 0
    runs: int = 0
    trace: int = 0  # a number that tells whether two executions were the same
    wrong: list[str] = field(default_factory=list[str])


class World:
    def __init__(
        self, seed: int, *, plan: Plan | None = None, check_every: int = CHECK_EVERY, say: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.chance = Random(f"{seed}:world")
        self.plan = plan or draw(Random(f"{seed}:plan"))
        network_chance = Random(f"{seed}:network")
        self.loop = VirtualLoop(lambda: network_chance.expovariate(1_000))
        self.network = Network(self.loop, network_chance)
        self.network.weather = self.plan.weather
        self.trouble = self.plan.trouble
        self._database_chance = Random(f"{seed}:database")
        self.clock_offset = 0
        self.database, self.key = fresh()
        self.ledger = Ledger(Random(f"{seed}:programs"), self.wall_ms, self.has_steady_clock)
        self.servers: list[Server] = []
        self.workers: list[Worker] = []
        self.versions: set[str] = set()
        self.client_node = Node("client", self.loop)
        self.client = Client(Address("http://sim", self.key), transport=Transport(self, Random(f"{seed}:http")))
        self.report = Report(seed, self.plan)
        self.history = check.History()
        self._check_every = check_every
        self._say = say
        self._numbers = 0
        self.is_calm = False

    @property
    def has_steady_clock(self) -> bool:
        return not any(trouble.startswith("clock") for trouble in self.plan.troubles)

    # ---- what nodes ask

    def wall_ms(self) -> int:
        return START_MS + round(self.loop.time() * 1_000) + self.clock_offset

    def database_of(self, node: Node) -> Database:
        return SimulatedDatabase(self.database, node, self.trouble, self._database_chance, self._committed)

    def some_server(self) -> Server | None:
        return self.chance.choice(self.servers) if self.servers else None

    def say(self, text: str) -> None:
        if self._say is not None:
            self._say(f"{self.loop.time():9.3f} {text}")

    # ---- nodes

    def name(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}{self._numbers}"

    def start_server(self) -> None:
        self.servers = [server for server in self.servers if server.node.alive]
        self.servers.append(Server(self, self.name("s")))

    def start_worker(self, hash: str = "1") -> None:
        self.versions.add(hash)
        self.workers.append(Worker(self, self.name("w"), hash=hash))

    # ---- checks

    def _committed(self) -> None:
        self.report.commits += 1
        if self.report.commits % self._check_every == 0 and not self.report.wrong:
            with looking(self.database) as tx:
                self.check(tx)

    def check(self, tx: Connection) -> None:
        for found in [*check.violations(tx), *self.history.read(tx), *check.over_limit(tx)][:5]:
            self.wrong(f"{found}, at commit {self.report.commits}")

    @property
    def is_broken(self) -> bool:
        return bool(self.report.wrong or self.ledger.wrong or self.loop.failures)

    def wrong(self, text: str) -> None:
        self.report.wrong.append(text)
        self.say(f"WRONG {text}")


def run(seed: int, *, made: Callable[[World], None] | None = None, **options: Any) -> Report:
    """Simulate a seed. `made` is given the world before it begins.

    Raises:
        Broken: an invariant does not hold; the message says which.
    """
    from tests.simulation.nemesis import Nemesis
    from tests.simulation.workload import Workload

    world = World(seed, **options)
    if made is not None:
        made(world)
    before = random.getstate()
    random.seed(seed)
    log = _Log(world)
    _define_tasks()
    programs.use(world.ledger)
    connections.use(world.client)
    try:
        _simulate(world, Workload(world), Nemesis(world))
    finally:
        _tear_down(world)
        connections.stop_using(world.client)
        random.setstate(before)
        log.close()
        tasks.clear()
        queues.registry.clear()
    problems = [*world.report.wrong, *world.ledger.wrong, *world.loop.failures, *log.errors]
    if problems:
        raise Broken(f"seed {seed}: " + "\n".join(problems[:10]))
    return world.report


def _simulate(world: World, workload: Any, nemesis: Any) -> None:
    for _ in range(world.plan.servers):
        world.start_server()
    for _ in range(world.plan.workers):
        world.start_worker()
    world.client_node.spawn(workload.run())
    director = world.loop.create_task(_direct(world, workload, nemesis))
    asyncio.set_event_loop(world.loop)
    try:
        world.loop.run_until_complete(director)
    except Stuck as stuck:
        world.wrong(str(stuck))
    with looking(world.database) as tx:
        world.check(tx)
        workload.check(tx)
        world.report.runs = tx.all("SELECT count(*) FROM runs")[0][0]
        rows = tx.all("SELECT n, kind, at, data FROM events ORDER BY seq")
    world.report.trace = hash(tuple((n, kind, at, len(data)) for n, kind, at, data in rows))
    world.report.steps = world.loop.steps
    world.report.virtual_seconds = world.loop.time()


async def _direct(world: World, workload: Any, nemesis: Any) -> None:
    """Troubles, then peace, then the end: safety all the time, liveness from the peace on."""
    await nemesis.run(world.plan.seconds)
    nemesis.make_peace()
    until = world.loop.time() + BOUND
    while not (world.is_broken or (workload.is_over and _is_quiet(world))):
        if world.loop.time() > until:
            world.wrong("not over in time: " + _what_is_left(world, workload))
            return
        await asyncio.sleep(1.0)


def _is_quiet(world: World) -> bool:
    with looking(world.database) as tx:
        runs = tx.all("SELECT 1 FROM runs WHERE execution <> 'FINISHED' AND task <> 'sim.nobody' LIMIT 1")
        return not runs and not tx.all("SELECT 1 FROM work LIMIT 1")


def _what_is_left(world: World, workload: Any) -> str:
    with looking(world.database) as tx:
        left = tx.all(
            "SELECT id, task, status, execution, attempt, epoch, held_by, lane_id, due_at FROM runs WHERE execution <> 'FINISHED' LIMIT 5"
        )
    return f"{left}; operations open: {workload.open_operations()}"


def _tear_down(world: World) -> None:
    """Everything that still waits is cancelled with nobody listening, so that nothing of this seed runs in the next."""
    loop = world.loop
    for node in loop.nodes:
        node.crash()
    loop.bury()
    leave(world.database)
    asyncio.set_event_loop(None)
    loop.close()


def _define_tasks() -> None:
    tasks.clear()
    queues.registry.clear()
    tasks.registry.tasks.update({task.id: task for task in TASKS})
    queues.registry.update({queue.name: queue for queue in QUEUES})


class _Log(logging.Handler):
    """I21: no error of ours in the log."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[str] = []
        self._world = world
        self._logger = logging.getLogger("outlast")
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(logging.INFO if world._say is not None else logging.WARNING)
        self._logger.propagate = False
        if world._say is not None:
            self.setLevel(logging.INFO)
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if self._world.loop.is_over:
            return
        extra = {k: v for k, v in record.__dict__.items() if k not in _PLAIN}
        text = f"{record.levelname} {record.name}: {record.getMessage()} {extra}"
        if record.exc_info is not None and record.exc_info[1] is not None:
            if isinstance(record.exc_info[1], Died):
                return
            text += f" {record.exc_info[1]!r}"
        self._world.say(text)
        is_bad = record.levelno >= logging.ERROR or any(sign in text for sign in UNEXPECTED)
        if is_bad and not any(expected in text for expected in EXPECTED):
            self.errors.append(text)

    def close(self) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]
        super().close()


_PLAIN = frozenset((*vars(logging.makeLogRecord({})), "taskName", "message"))
UNEXPECTED = ("kept moving",)  # transactions are one after the other: nothing moves
EXPECTED = (
    "the lease is over and the server is away",
    "event loop hung",
    "the database did not answer",
    "the connection to the database broke",
    "an executor was refused",
    "told to fail at",
    "a cancelled run blocks its executor",
)
