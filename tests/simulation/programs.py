"""The tasks that simulated workers run, and the ledger outside of everything that knows what their code really did."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from outlast import Retry, RunContext, Task, queue, schedules, step, task, wait
from outlast.model.manifest import Manifest, QueueDefinition
from outlast.queues import Queue
from tests.simulation.loop import NODE, Died, Node

QUICK = Retry(max_attempts=6, min_timeout=0.2, max_timeout=45.0, factor=6.0)


@dataclass(slots=True)
class Ledger:
    """Written by user code, beside the database: nothing that crashes takes a line of it back."""

    chance: Random
    now: Callable[[], int]  # the database's clock
    has_steady_clock: bool  # nobody moves it
    starts: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    started: set[str] = field(default_factory=set[str])
    effects: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))  # (run, step) → idempotency keys
    seen: dict[tuple[str, str], set[Any]] = field(default_factory=lambda: defaultdict(set))  # (run, place) → values its code was given
    failures: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    asked: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    running: dict[str, set[Node]] = field(default_factory=lambda: defaultdict(set))
    wrong: list[str] = field(default_factory=list[str])
    values: int = 0

    def saw(self, ctx: RunContext, place: str, value: Any) -> None:
        """The code was given this value here; another execution must be given the same."""
        seen = self.seen[(ctx.run.id, place)]
        seen.add(value)
        if len(seen) > 1:
            self.wrong.append(f"I8: run {ctx.run.id} was given {sorted(map(str, seen))} at {place}")

    def effect(self, run_id: str, name: str, key: str) -> int:
        """The effect of a step; the value it gives is never the same."""
        self.effects[(run_id, name)].add(key)
        self.values += 1
        return self.values

    def failed_before(self, run_id: str) -> int:
        return self.failures[run_id]

    def fail(self, run_id: str) -> None:
        self.failures[run_id] += 1

    def began(self, run_id: str, place: str) -> int:
        """When the run came here first."""
        return self.asked.setdefault((run_id, place), self.now())

    def die(self) -> None:
        """kill -9 of the executor in which this is called."""
        node = NODE.get()
        assert node is not None
        node.crash()
        raise Died

    @contextlib.asynccontextmanager
    async def execution(self, ctx: RunContext, *, waits: bool = False) -> AsyncIterator[None]:
        """The code of a run runs here now."""
        run_id, node = ctx.run.id, NODE.get()
        assert node is not None
        self.started.add(run_id)
        if waits:  # its coroutine may be left where it is when it goes on elsewhere
            yield
            return
        self.starts[(run_id, ctx.attempt.number)] += 1
        others = [n.name for n in self.running[run_id] if n.alive and not n.was_frozen and n is not node]
        if others and not node.was_frozen:
            self.wrong.append(f"run {run_id} executes in {others} and in {node.name} at once")
        self.running[run_id].add(node)
        try:
            yield
        finally:
            self.running[run_id].discard(node)


_ledgers: list[Ledger] = []


def use(ledger: Ledger) -> None:
    """One simulation at a time."""
    _ledgers[:] = [ledger]


def book() -> Ledger:
    return _ledgers[0]


async def _pause(least: float = 0.0, most: float = 0.5) -> None:
    await asyncio.sleep(book().chance.uniform(least, most))


async def _effect(run_id: str, name: str) -> int:
    value = book().effect(run_id, name, step.idempotency_key)
    await _pause()
    return value


def _signed(payload: dict[str, Any], ctx: RunContext) -> Any:
    """Whose result it is: one of an earlier attempt must never be accepted."""
    return [payload.get("op"), ctx.attempt.number]


narrow = queue("sim/narrow", concurrency_limit=2)
single = queue("sim/single", concurrency_limit=1)


@task(id="sim.plain", retry=QUICK)
async def plain(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with book().execution(ctx):
        await asyncio.sleep(payload.get("seconds", 0.1))
        return _signed(payload, ctx)


@task(id="sim.narrow", retry=QUICK, queue=narrow)
async def in_narrow(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with book().execution(ctx):
        await asyncio.sleep(payload.get("seconds", 0.1))
        return _signed(payload, ctx)


@task(id="sim.keyed", retry=QUICK, queue=single)
async def in_keyed(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with book().execution(ctx):
        await asyncio.sleep(payload.get("seconds", 0.1))
        return _signed(payload, ctx)


@task(id="sim.once", retry=Retry(max_attempts=1))
async def once(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with book().execution(ctx):
        await _pause(0.0, 2.0)
        return _signed(payload, ctx)


@task(id="sim.uneven", retry=QUICK)
async def uneven(payload: dict[str, Any], ctx: RunContext) -> Any:
    """Each execution takes another time, so one that was given up may end before the one that counts."""
    async with book().execution(ctx):
        await _pause(1.0, 50.0)
        return _signed(payload, ctx)


@task(id="sim.flaky", retry=QUICK)
async def flaky(payload: dict[str, Any], ctx: RunContext) -> Any:
    """Fails some times, then goes well; some of its pauses are short, some go through the queue."""
    async with book().execution(ctx):
        await _pause()
        if book().failed_before(ctx.run.id) < payload["failures"]:
            book().fail(ctx.run.id)
            raise ValueError("not yet")
        return _signed(payload, ctx)


@task(id="sim.fails", retry=Retry(max_attempts=3, min_timeout=0.1, max_timeout=1.0))
async def fails(payload: dict[str, Any], ctx: RunContext) -> None:
    async with book().execution(ctx):
        await _pause()
        raise ValueError("never")


@task(id="sim.poison", retry=QUICK)
async def poison(payload: dict[str, Any], ctx: RunContext) -> None:
    async with book().execution(ctx):
        await _pause(0.0, 0.2)
        book().die()


@task(id="sim.steps", retry=QUICK)
async def steps(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with book().execution(ctx, waits=True):
        made: list[int] = []
        for i in range(payload["steps"]):
            value = await step(f"s{i}", _effect, ctx.run.id, f"s{i}")
            book().saw(ctx, f"s{i}", value)
            made.append(value)
            await _pause(0.0, payload.get("pause", 0.5))
            if payload.get("fail_at") == i and book().failed_before(ctx.run.id) == 0:
                book().fail(ctx.run.id)
                raise ValueError("between steps")
        return made


@task(id="sim.wait", retry=QUICK, on_cancel_when_suspended="replay")
async def waits(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with book().execution(ctx, waits=True):
        for i, seconds in enumerate(payload["waits"]):
            began = book().began(ctx.run.id, str(i))
            await wait.for_(seconds=seconds)
            if book().has_steady_clock and book().now() - began < seconds * 1_000:
                book().wrong.append(f"I10: a wait of {seconds} s of run {ctx.run.id} took {book().now() - began} ms")
            book().saw(ctx, f"w{i}", await step(f"after{i}", _effect, ctx.run.id, f"after{i}"))
        return payload.get("op")


@task(id="sim.tree", retry=QUICK)
async def tree(payload: dict[str, Any], ctx: RunContext) -> int:
    """Children of children, all at once: the number of leaves."""
    async with book().execution(ctx, waits=True):
        if payload["depth"] == 0:
            await _pause()
            return 1
        below = {"depth": payload["depth"] - 1, "width": payload["width"]}
        made = await asyncio.gather(*[tree.trigger_and_wait(below).unwrap() for _ in range(payload["width"])])
        return sum(made)


@task(id="sim.item", retry=Retry(max_attempts=1))
async def item(payload: dict[str, Any], ctx: RunContext) -> int:
    async with book().execution(ctx):
        await _pause(0.0, payload.get("seconds", 0.5))
        if payload["bad"]:
            raise ValueError("a bad item")
        return payload["index"]


@task(id="sim.batch", retry=QUICK)
async def batch(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with book().execution(ctx, waits=True):
        made = await item.batch_trigger_and_wait([{"index": i, "bad": i in payload["bad"]} for i in range(payload["items"])])
        return [r.output if r.ok else None for r in made.runs]


@task(id="sim.race", retry=QUICK)
async def race(payload: dict[str, Any], ctx: RunContext) -> Any:
    """Whoever was first in one execution is first in all."""
    async with book().execution(ctx, waits=True):
        child = asyncio.ensure_future(_child(payload["seconds"]))
        time = asyncio.ensure_future(_time(payload["seconds"]))
        done, _ = await asyncio.wait({child, time}, return_when=asyncio.FIRST_COMPLETED)
        book().saw(ctx, "winner", "both" if len(done) == 2 else done.pop().result())
        book().saw(ctx, "after", await step("after", _effect, ctx.run.id, "after"))
        await asyncio.gather(child, time)
        return payload.get("op")


async def _child(seconds: float) -> str:
    await plain.trigger_and_wait({"seconds": seconds})
    return "child"


async def _time(seconds: float) -> str:
    await wait.for_(seconds=seconds)
    return "time"


@task(id="sim.token", retry=QUICK, on_cancel_when_suspended="replay")
async def token(payload: dict[str, Any], ctx: RunContext) -> Any:
    async with book().execution(ctx, waits=True):
        found = await wait.for_token(payload["token"])
        book().saw(ctx, "token", found.ok)
        return [found.ok, found.output if found.ok else None]


@task(id="sim.pair", retry=QUICK)
async def pair(payload: dict[str, Any], ctx: RunContext) -> Any:
    """Two tokens at once, completed at different times."""
    async with book().execution(ctx, waits=True):
        found = await asyncio.gather(*[_completed(token_id) for token_id in payload["tokens"]])
        book().saw(ctx, "tokens", tuple(found))
        return found


async def _completed(token_id: str) -> bool:
    return (await wait.for_token(token_id)).ok


@schedules.task(id="sim.cron", retry=QUICK, cron="* * * * *")
async def cron(payload: Any, ctx: RunContext) -> None:
    """Once for each minute, whoever thinks it is his to trigger it."""
    async with book().execution(ctx):
        await _pause()


@task(id="sim.spawn", retry=QUICK)
async def spawn(payload: dict[str, Any], ctx: RunContext) -> Any:
    """Children that nobody waits for: exactly as many as the program says."""
    async with book().execution(ctx, waits=True):
        made = [(await plain.trigger({"op": f"{payload['op']}/{i}", "seconds": 0.1})).id for i in range(payload["children"])]
        book().saw(ctx, "children", tuple(made))
        await _pause()
        return made


TASKS: list[Task[Any, Any]] = [
    plain, in_narrow, in_keyed, once, uneven, flaky, fails, poison, steps, waits, tree, item, batch, race, token, pair, cron, spawn,
]  # fmt: skip
QUEUES: list[Queue] = [narrow, single]


@cache
def manifest(hash: str) -> Manifest:
    return Manifest(
        python="3.11",
        content_hash=hash,
        tasks=[task.definition() for task in TASKS],
        queues=[QueueDefinition(name=q.name, concurrency_limit=q.concurrency_limit) for q in QUEUES],
    )
