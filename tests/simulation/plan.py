"""What one seed does: its size, its limits, and a random half of all troubles (a swarm: too many at once hide one another)."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.simulation.database import Trouble
from tests.simulation.network import Weather

TROUBLES = (
    "kill_server", "kill_worker", "kill_executor", "freeze_worker", "freeze_server", "partition", "reset", "stop_server", "stop_worker",
    "deploy", "database_away", "clock_forward", "clock_back", "isolate", "stall", "unlist_server",
)  # fmt: skip
KINDS = (
    "plain", "narrow", "keyed", "once", "flaky", "fails", "poison", "steps", "wait", "tree", "batch", "race", "token", "pair", "spawn",
    "long", "uneven", "slow_steps", "debounce", "delay", "ttl", "idempotent", "batch_call", "unknown",
)  # fmt: skip


@dataclass(slots=True)
class Plan:
    servers: int = 1
    workers: int = 1
    executors: int = 1
    slots: int = 4
    concurrency: int = 1_000
    drain_seconds: float = 5.0
    cold_after: float | None = None
    hot_waits: int | None = None
    replay_every_wait: bool = False
    operations: int = 10
    each_kind: bool = False  # one operation of each kind, besides
    seconds: float = 60.0  # of operations and troubles; then everything heals
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    cancels: float = 0.0  # chance that an operation's run is cancelled at some time
    troubles: list[str] = field(default_factory=list[str])
    trouble_seconds: float = 15.0  # between two of them, in the mean
    weather: Weather = field(default_factory=Weather)
    trouble: Trouble = field(default_factory=Trouble)
    http_lost: float = 0.0
    http_twice: float = 0.0


def draw(chance: Random) -> Plan:
    def maybe(value: float) -> float:
        return value if chance.random() < 0.4 else 0.0

    plan = Plan(
        servers=chance.choice((1, 1, 2, 3)),
        workers=chance.choice((1, 2, 3)),
        executors=chance.choice((1, 1, 2)),
        slots=chance.choice((1, 2, 5, 20)),
        concurrency=chance.choice((2, 5, 1_000, 1_000)),
        cold_after=chance.choice((None, None, 2.0, 20.0)),
        hot_waits=chance.choice((None, None, 1, 3)),
        replay_every_wait=chance.random() < 0.1,
        operations=chance.choice((3, 6, 10, 18)),
        seconds=chance.choice((15.0, 35.0, 70.0)),
        kinds=[kind for kind in KINDS if chance.random() < 0.4] or ["plain"],
        cancels=maybe(0.3),
        troubles=[trouble for trouble in TROUBLES if chance.random() < 0.3],
        trouble_seconds=chance.choice((4.0, 10.0, 30.0)),
        weather=Weather(chance.choice((0.001, 0.005, 0.05)), maybe(0.05), maybe(0.01), maybe(0.05)),
        trouble=Trouble(maybe(0.002), maybe(0.004), maybe(0.01), maybe(0.01)),
        http_lost=maybe(0.1),
        http_twice=maybe(0.1),
    )
    return plan
