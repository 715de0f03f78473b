"""A program run in every way it can be interrupted: not at all, after each of its durable operations, and at each of its waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from outlast import Result, Task, queues, tasks
from tests.durable.house import House

SAME: Any = object()
UNENDING: Any = object()


class Program(NamedTuple):
    """What a run of `task` gives: its output, or the name of its error; or a test of either."""

    task: Task[Any, Any]
    live: Any
    crashed: Any = SAME  # after a crash; SAME: as live
    replayed: Any = SAME  # replayed at every wait; SAME: as crashed
    holds: Callable[[], Awaitable[None]] | None = None  # what else is true at the end
    payload: Any = None


Trap = Callable[[House], Program]


async def interrupted_everywhere(house: House, trap: Trap) -> int:
    """Each run begins with a fresh program, whose memory of earlier runs is empty. The number of its durable operations."""
    mortal, _ = await _once(house, trap, "live")
    for last in range(1, mortal.operations + 1):
        dying, said = await _once(house, trap, "crashed", last=last)
        assert dying.died.is_set(), f"operation {last} was not made: {said}"
    if trap(house).replayed is not UNENDING:
        await _once(house, trap, "replayed", replay_every_wait=True)
    return mortal.operations


async def _once(house: House, trap: Trap, how: str, **executor: Any) -> tuple[Any, str]:
    tasks.clear()
    queues.registry.clear()
    program = trap(house)
    mortal = await house.work(**executor)
    async with asyncio.timeout(30):
        got = outcome(await program.task.trigger_and_wait(program.payload))
    crashed = program.live if program.crashed is SAME else program.crashed
    expected = {"live": program.live, "crashed": crashed, "replayed": crashed if program.replayed is SAME else program.replayed}[how]
    said = f"{how} {executor}: {got!r}"
    assert expected(got) if callable(expected) else got == expected, f"{said}, expected {expected!r}"
    if program.holds is not None:
        async with asyncio.timeout(30):
            await program.holds()
    house.retire()
    return mortal, said


def outcome(result: Result[Any]) -> Any:
    return result.output if result.ok else result.error.name
