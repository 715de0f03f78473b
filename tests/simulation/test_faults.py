"""Every fault point × {kill, raise, hang, drop} under one canonical workload: afterwards all of it is over, and every rule holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from outlast import faults
from outlast.faults import SERVER, WORKER, FaultError
from tests.simulation.loop import NODE, NOWHERE, Died, Node
from tests.simulation.plan import Plan
from tests.simulation.world import Report, World, run

Action = Literal["kill", "raise", "hang", "drop"]
KINDS = ["plain", "keyed", "once", "flaky", "fails", "steps", "wait", "tree", "batch", "race", "token", "spawn", "delay", "idempotent"]
HANG_SECONDS = 40.0  # longer than a lease
NTH = (1, 5, 12)  # each point strikes at the beginning, and in the middle of things


def canonical() -> Plan:
    """One run of each kind and some more, some cancelled; executors die and workers leave, so that runs are lost and given back."""
    return Plan(
        servers=2, workers=2, executors=2, slots=10, operations=10, each_kind=True, kinds=KINDS, seconds=25.0, cancels=0.3, cold_after=20.0,
        troubles=["kill_executor", "stop_worker"], trouble_seconds=4.0, drain_seconds=0.5,
    )  # fmt: skip


class Striker:
    """Fires at the n-th time that any node comes to the point."""

    def __init__(self, name: str, action: Action) -> None:
        self.name = name
        self.action: Action = action
        self.seen = 0
        self.struck = 0

    def __call__(self, name: str) -> bool:
        node = NODE.get()
        if name != self.name or node is None or not node.alive:
            return False
        self.seen += 1
        if self.seen not in NTH:
            return False
        self.struck += 1
        return self._strike(node)

    def _strike(self, node: Node) -> bool:
        match self.action:
            case "kill":
                node.crash()
                node.loop.call_later(1.0, _replace, node, context=NOWHERE)
                raise Died
            case "raise":
                raise FaultError(f"told to fail at {self.name}")
            case "hang":
                node.freeze()
                node.loop.call_later(HANG_SECONDS, node.thaw, context=NOWHERE)
                return False
            case "drop":
                return True


_worlds: list[World] = []


def _replace(node: Node) -> None:
    """Whoever starts processes starts another."""
    [world] = _worlds
    if node.parent is None:
        (world.start_server if node.name.startswith("s") else world.start_worker)()


@pytest.fixture
def strike() -> Iterator[Callable[[str, Action, int], tuple[Striker, Report]]]:
    def struck(name: str, action: Action, seed: int) -> tuple[Striker, Report]:
        striker = Striker(name, action)
        faults.hook = striker
        return striker, run(seed, plan=canonical(), check_every=20, made=lambda world: _worlds.__setitem__(slice(None), [world]))

    yield struck
    faults.hook = None
    _worlds.clear()


SEEDS = range(3, 9)  # a point that one seed does not come to is tried with the next
POINTS = (*SERVER, *WORKER)
FRAMES = [name for name in POINTS if name.endswith((".send", ".receive"))]


def fires(strike: Callable[[str, Action, int], tuple[Striker, Report]], name: str, action: Action) -> None:
    for seed in SEEDS:
        striker, report = strike(name, action, seed)
        assert report.runs
        if striker.struck:
            return
    raise AssertionError(f"the workload never comes to {name}")


@pytest.mark.parametrize("name", POINTS)
def test_kill(strike: Callable[[str, Action, int], tuple[Striker, Report]], name: str) -> None:
    fires(strike, name, "kill")


@pytest.mark.parametrize("name", FRAMES)
def test_drop(strike: Callable[[str, Action, int], tuple[Striker, Report]], name: str) -> None:
    fires(strike, name, "drop")


@pytest.mark.full
@pytest.mark.parametrize("name", SERVER)
def test_raise(strike: Callable[[str, Action, int], tuple[Striker, Report]], name: str) -> None:
    """A defect of ours in a server. In a worker it ends the attempt or the worker, which is tested there."""
    fires(strike, name, "raise")


@pytest.mark.full
@pytest.mark.parametrize("name", POINTS)
def test_hang(strike: Callable[[str, Action, int], tuple[Striker, Report]], name: str) -> None:
    fires(strike, name, "hang")
