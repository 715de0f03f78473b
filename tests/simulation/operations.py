"""What a client may trigger: the kinds of operations, and what must come of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any


@dataclass(slots=True)
class Operation:
    """One trigger of a client, and what must come of it."""

    name: str
    kind: str
    task: str
    payload: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    statuses: set[str] = field(default_factory=lambda: {"COMPLETED"})
    output: Callable[[Any], bool] = lambda _: True
    attempts: int | None = None  # exactly so many, losses not counted
    not_before_ms: int | None = None
    run_id: str | None = None  # acknowledged
    is_sent: bool = False
    is_over: bool = False
    cancelled_at: int | None = None  # acknowledged


class Kinds:
    keys: Sequence[str] = "abc"  # of a queue that runs one of each at a time

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(f"{seed}:workload")

    def _draw(self, kind: str, i: int) -> Operation:
        chance = self.chance
        o = Operation(f"op{i}", kind, "sim.plain", {"op": f"op{i}", "seconds": chance.choice((0.0, 0.2, 2.0, 6.0))})
        o.output = lambda value: value[0] == o.name if isinstance(value, list) else value == o.name
        made = getattr(self, f"_{kind}", None)
        if made is not None:
            made(o, chance)
        return o

    def _narrow(self, o: Operation, chance: Random) -> None:
        o.task = "sim.narrow"

    def _keyed(self, o: Operation, chance: Random) -> None:
        o.task = "sim.keyed"
        o.options["concurrencyKey"] = chance.choice(self.keys)

    def _once(self, o: Operation, _: Random) -> None:
        o.task = "sim.once"

    def _flaky(self, o: Operation, chance: Random) -> None:
        o.task, o.payload["failures"] = "sim.flaky", chance.randrange(1, 4)

    def _fails(self, o: Operation, _: Random) -> None:
        o.task, o.statuses, o.attempts = "sim.fails", {"FAILED"}, 3

    def _poison(self, o: Operation, _: Random) -> None:
        o.task, o.statuses = "sim.poison", {"CRASHED"}

    def _steps(self, o: Operation, chance: Random) -> None:
        o.task = "sim.steps"
        o.payload |= {"steps": chance.randrange(1, 6), "fail_at": chance.choice((None, 0, 1))}
        o.output = lambda value: len(value) == o.payload["steps"]

    def _slow_steps(self, o: Operation, chance: Random) -> None:
        """Somebody is always between two of them."""
        self._steps(o, chance)
        o.payload["pause"] = 12.0

    def _uneven(self, o: Operation, _: Random) -> None:
        o.task = "sim.uneven"

    def _wait(self, o: Operation, chance: Random) -> None:
        o.task, o.payload["waits"] = "sim.wait", [chance.choice((0.5, 3.0, 25.0)) for _ in range(chance.randrange(1, 4))]

    def _tree(self, o: Operation, chance: Random) -> None:
        depth, width = chance.choice(((1, 1), (1, 8), (2, 2), (3, 2)))
        o.task = "sim.tree"
        o.payload |= {"depth": depth, "width": width}
        o.output = lambda value: value == width**depth

    def _batch(self, o: Operation, chance: Random) -> None:
        items = chance.randrange(1, 8)
        bad = sorted({chance.randrange(items) for _ in range(chance.randrange(3))})
        o.task = "sim.batch"
        o.payload |= {"items": items, "bad": bad}
        o.output = lambda value: value == [None if i in bad else i for i in range(items)]

    def _race(self, o: Operation, chance: Random) -> None:
        o.task, o.payload["seconds"] = "sim.race", chance.choice((0.5, 2.0))

    def _token(self, o: Operation, _: Random) -> None:
        o.task = "sim.token"
        o.output = lambda value: value[0] or value[1] is None

    def _pair(self, o: Operation, _: Random) -> None:
        o.task = "sim.pair"
        o.output = lambda value: value == [True, True]

    def _spawn(self, o: Operation, chance: Random) -> None:
        o.task, o.payload["children"] = "sim.spawn", chance.randrange(1, 5)
        o.output = lambda value: len(set(value)) == o.payload["children"]

    def _long(self, o: Operation, chance: Random) -> None:
        o.payload["seconds"] = chance.choice((20.0, 45.0, 100.0))

    def _delay(self, o: Operation, chance: Random) -> None:
        o.options["delay"] = f"{chance.choice((2, 15))}s"

    def _ttl(self, o: Operation, chance: Random) -> None:
        o.options["ttl"] = chance.choice((1, 10))
        o.statuses = {"COMPLETED", "EXPIRED"}

    def _idempotent(self, o: Operation, chance: Random) -> None:
        o.payload["key"] = o.options["idempotencyKey"] = f"key{chance.randrange(2)}"
        o.output = lambda _: True  # of whoever came first

    def _debounce(self, o: Operation, chance: Random) -> None:
        mode = "trailing" if self.seed % 2 else "leading"
        o.options["debounce"] = {"key": "d", "delay": "20s", "mode": mode}
        o.output = lambda _: True  # of whoever came first

    def _batch_call(self, o: Operation, chance: Random) -> None:
        o.payload["items"] = chance.randrange(1, 6)

    def _unknown(self, o: Operation, _: Random) -> None:
        o.task, o.statuses = "sim.nobody", {"PENDING_VERSION"}
