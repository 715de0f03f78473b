"""What the clients of a torture do: the workload of the simulation, and what only real processes and much time show."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from outlast.client.address import Address
from outlast.client.connection import Connection as Client
from outlast.client.requests import Request
from tests.simulation.plan import KINDS, Plan
from tests.simulation.workload import Operation, Workload
from tests.torture import ledger

MIX = [
    *[kind for kind in KINDS if kind not in ("long", "poison")] * 40,
    *["thread", "thread_waits", "process"] * 40,
    *["large_batch", "poison"] * 4,  # four of a thousand
    *["busy"] * 2,  # what computes is dear: one of 500 takes a tenth of two cores
]
TURNS = 50  # requests at once; httpx looks through all of them at each that comes or goes
TWICE = 0.01  # of the requests are sent twice at once, as a proxy does that tries again


class DoublingClient(Client):
    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._turns = asyncio.Semaphore(TURNS)

    async def send(self, request: Request[Any]) -> Any:
        async with self._turns:
            return await self._send(request)

    async def _send(self, request: Request[Any]) -> Any:
        if random.random() >= TWICE:
            return await super().send(request)
        first, second = await asyncio.gather(super().send(request), super().send(request), return_exceptions=True)
        answer = second if isinstance(first, BaseException) else first
        if isinstance(answer, BaseException):
            raise answer
        return answer


class TortureWorkload(Workload):
    signed = Workload.signed | {"torture.thread", "torture.busy"}
    clock_ms = 50  # they know the database's clock to half a round trip
    keys = tuple(f"key{i}" for i in range(100))

    def _debounce(self, o: Operation, chance: random.Random) -> None:
        super()._debounce(o, chance)
        number = chance.randrange(20)
        o.options["debounce"] |= {"key": f"d{number}", "mode": "trailing" if number % 2 else "leading"}

    def _plain(self, o: Operation, chance: random.Random) -> None:
        o.options["priority"] = chance.choice((0, 0, 5, 30))

    def _thread(self, o: Operation, _: random.Random) -> None:
        o.task = "torture.thread"

    def _thread_waits(self, o: Operation, _: random.Random) -> None:
        o.task = "torture.thread_waits"

    def _process(self, o: Operation, _: random.Random) -> None:
        o.task = "torture.process"

    def _busy(self, o: Operation, chance: random.Random) -> None:
        o.task, o.payload["seconds"] = "torture.busy", chance.choice((5.0, 5.0, 40.0))

    def _large_batch(self, o: Operation, chance: random.Random) -> None:
        bad = sorted(chance.sample(range(50), 3))
        o.task = "sim.batch"
        o.payload |= {"items": 50, "bad": bad}
        o.output = lambda value: value == [None if i in bad else i for i in range(50)]


class Spawner:
    """Where the workload starts what goes on beside it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class World:
    """What the simulation's workload asks of its world, in the real one."""

    has_steady_clock = True

    def __init__(self, seed: int, plan: Plan, client: Client) -> None:
        self.seed = seed
        self.plan = plan
        self.client = client
        self.client_node = Spawner()
        self.ledger = ledger.Ledger(ledger.Random(), ledger.now_ms, True)
        self.problems: list[str] = []

    def wall_ms(self) -> int:
        return ledger.now_ms()

    def say(self, text: str) -> None:
        return

    def wrong(self, text: str) -> None:
        self.problems.append(text)
