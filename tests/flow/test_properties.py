"""Whatever is triggered, claimed, ended and cancelled, on whichever server: limits hold at every committed state, and no key starves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from outlast.engine.claim import Claimed
from outlast.model.manifest import QueueDefinition, TaskDefinition
from outlast.model.rate import Rate
from outlast.model.requests import DebounceBy
from outlast.model.run import Status
from outlast.store import runs
from tests.databases import Address, fresh_schema
from tests.engine.house import START, FakeClock, House, open_house

KEYS = st.sampled_from(["a", "b"])
RATE = Rate(limit=3, period_ms=3_000, burst=2, per_key=True)
SERVERS = {"sqlite": 1, "postgresql": 2}
TASKS = [
    TaskDefinition(id="limited", queue=QueueDefinition(name="limited", concurrency_limit=2, combined_limit=3)),
    TaskDefinition(id="rated", queue=QueueDefinition(name="rated", rate=RATE)),
    TaskDefinition(id="single", singleton="queue"),
    TaskDefinition(id="only", singleton="skip"),
    TaskDefinition(id="late"),
]
MAX_DELAY_MS = 8_000


@dataclass
class Pushed:
    """What debounce says of the run of one key, worked out without the engine."""

    run_id: str
    first_at: int
    due_at: int
    payload: str


def due(now: int, seconds: int) -> int:
    """Delays count in whole seconds, rounded up."""
    return -(-(now + seconds * 1_000) // 1_000) * 1_000


def machine(address: Callable[[], Any], servers: int) -> type[RuleBasedStateMachine]:
    class Flow(RuleBasedStateMachine):
        """Several engines on one database under one clock."""

        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.clock = FakeClock(START)
            self.executing: list[tuple[House, Claimed]] = []
            self.starts: list[tuple[str, str, int]] = []
            self.made: list[str] = []
            self.pushed: dict[str, Pushed] = {}
            self.turn = 0
            self.place = address()
            where = self.place.__enter__()
            self.open = [open_house(where, clock=self.clock, seed=n) for n in range(servers)]
            self.houses = [self.do(context.__aenter__()) for context in self.open]
            for house in self.houses:
                self.do(house.work(*TASKS))

        def do(self, work: Coroutine[Any, Any, Any]) -> Any:
            return self.loop.run_until_complete(work)

        @property
        def house(self) -> House:
            self.turn += 1
            return self.houses[self.turn % len(self.houses)]

        @rule(task=st.sampled_from(["limited", "rated", "single", "only"]), key=KEYS, n=st.integers(1, 5))
        def trigger(self, task: str, key: str, n: int) -> None:
            self.made += self.together(self.house.trigger(task, concurrency_key=key) for _ in range(n))

        @rule(task=st.sampled_from(["only", "single"]), key=KEYS)
        def trigger_at_once(self, task: str, key: str) -> None:
            """On all servers in one moment."""
            made = self.together(house.trigger(task, concurrency_key=key) for house in self.houses * 2)
            assert task != "only" or len(set(made)) == 1, made
            self.made += made

        @rule(key=KEYS, seconds=st.integers(1, 4), mode=st.sampled_from(["leading", "trailing"]), payload=st.sampled_from("123"))
        def debounce(self, key: str, seconds: int, mode: Any, payload: str) -> None:
            """On all servers in one moment: one run, which is the one of the key if it waits and may be pushed that far."""
            by = DebounceBy(key=key, delay_ms=seconds * 1_000, max_delay_ms=MAX_DELAY_MS, mode=mode)
            known, at = self.pushed.get(key), due(self.clock.now(), seconds)
            if known is not None and (not self.is_delayed(known.run_id) or at > known.first_at + MAX_DELAY_MS):
                known = None
            made = self.together(house.trigger("late", debounce=by, payload=payload, concurrency_key=key) for house in self.houses * 2)
            assert len(set(made)) == 1, made
            assert known is None or made[0] == known.run_id
            assert known is not None or made[0] not in self.made
            found = known or Pushed(made[0], self.clock.now(), at, payload)
            found.due_at = max(found.due_at, at)
            found.payload = payload if mode == "trailing" else found.payload
            self.pushed[key] = found
            self.made.append(made[0])

        def is_delayed(self, run_id: str) -> bool:
            return self.do(self.houses[0].run(run_id)).status is Status.DELAYED

        def together(self, work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
            async def all_of() -> list[Any]:
                return await asyncio.gather(*work)

            return self.do(all_of())

        @rule(n=st.integers(1, 6), at_once=st.booleans())
        def claim(self, n: int, at_once: bool = False) -> None:
            heads, held = self.waiting(), Counter((claimed.run.task, claimed.run.concurrency_key or "") for _, claimed in self.executing)
            houses = self.houses if at_once else [self.house]
            got = [(h, c) for h, found in zip(houses, self.together(h.claim(n) for h in houses), strict=True) for c in found]
            for house, claimed in got:
                self.executing.append((house, claimed))
                self.starts.append((claimed.run.task, claimed.run.concurrency_key or "", self.clock.now()))
                self.started_in_time(claimed)
            keys = {c.run.concurrency_key or "" for _, c in got if c.run.task == "limited"}
            for before in heads.keys() - keys:
                passed = [key for key in keys if heads[before] < heads[key]]
                assert not passed or held["limited", before] >= 2, f"{passed} went past {before}"

        def waiting(self) -> dict[str, int]:
            """Where the first entry of each key of the limited queue stands."""
            sql = (
                "SELECT l.key, min(l.head) FROM lanes l JOIN queues q ON q.id = l.queue_id"
                " WHERE q.name = 'limited' AND l.queued > 0 GROUP BY l.key"
            )
            return dict(self.do(self.houses[0].engine.read(lambda tx: tx.all(sql))))

        def started_in_time(self, claimed: Claimed) -> None:
            for pushed in self.pushed.values():
                if pushed.run_id == claimed.run.id:
                    assert self.clock.now() >= pushed.due_at
                    assert claimed.data.payload == pushed.payload

        @precondition(lambda self: bool(self.executing))
        @rule(which=st.integers(0, 50), outcome=st.sampled_from(["ok", "failed"]))
        def end(self, which: int, outcome: str) -> None:
            house, claimed = self.executing.pop(which % len(self.executing))
            self.do(house.end(claimed, outcome))

        @precondition(lambda self: bool(self.made))
        @rule(which=st.integers(0, 50))
        def cancel(self, which: int) -> None:
            self.do(self.house.cancel(self.made[which % len(self.made)]))

        @rule(seconds=st.sampled_from([0.3, 1.0, 2.5]))
        def later(self, seconds: float) -> None:
            self.clock.advance(seconds=seconds)
            for house in self.houses:
                self.do(house.later(seconds=0))

        @invariant()
        def limits_hold(self) -> None:
            rows = self.do(
                self.houses[0].engine.read(
                    lambda tx: tx.all(
                        "SELECT r.task, r.concurrency_key, r.id FROM slots s JOIN runs r ON r.id = s.run_id WHERE r.status <> 'CANCELED'"
                    )
                )
            )
            held = Counter((task, key) for task, key, _ in rows)
            assert all(n <= 2 for (task, _), n in held.items() if task == "limited"), held
            assert sum(n for (task, _), n in held.items() if task == "limited") <= 3, held
            assert all(n <= 1 for (task, _), n in held.items() if task in ("single", "only")), held

        @invariant()
        def singletons_are_alone(self) -> None:
            """Also of those that wait for a worker: beyond one they are in line, or not made at all."""
            sql = (
                "SELECT task, concurrency_key, status FROM runs WHERE task IN ('single', 'only')"
                " AND status NOT IN ('COMPLETED', 'FAILED', 'CANCELED')"
            )
            rows = self.do(self.houses[0].engine.read(lambda tx: tx.all(sql)))
            alone = Counter((task, key) for task, key, status in rows if task == "only" or status != "DELAYED")
            assert all(n == 1 for n in alone.values()), rows

        @invariant()
        def debounced_runs_are_due_when_their_last_trigger_said(self) -> None:
            for pushed in self.pushed.values():
                run = self.do(self.houses[0].run(pushed.run_id))
                assert run.status is not Status.DELAYED or run.due_at == pushed.due_at <= pushed.first_at + MAX_DELAY_MS

        @invariant()
        def rates_hold(self) -> None:
            """So many at once as the burst says, then one whenever its part of the period has passed."""
            interval = RATE.period_ms / RATE.limit
            for key in ("a", "b"):
                times = [at for task, found, at in self.starts if (task, found) == ("rated", key)]
                for i, first in enumerate(times):
                    assert all(n <= RATE.burst + (at - first) / interval for n, at in enumerate(times[i:], 1)), times

        def teardown(self) -> None:
            try:
                self.nobody_starves()
            finally:
                for context in reversed(self.open):
                    self.do(context.__aexit__(None, None, None))
                self.loop.close()
                self.place.__exit__(None, None, None)

        def nobody_starves(self) -> None:
            """Whoever is patient sees every run end."""
            left, found = -1, list[Any]()
            for _ in range(400):
                while self.executing:
                    house, claimed = self.executing.pop()
                    self.do(house.end(claimed))
                self.later(1.0)
                self.claim(6)
                found = self.do(self.houses[0].engine.read(lambda tx: runs.read(tx, self.made)))
                left = sum(not run.is_final for run in found)
                if not left:
                    break
            assert left <= 0, [run for run in found if not run.is_final]
            self.do(self.houses[0].assert_sound())

    return Flow


def check(kind: str, request: pytest.FixtureRequest, examples: int, steps: int) -> None:
    address = _sqlite if kind == "sqlite" else partial(fresh_schema, request.getfixturevalue("postgres_url"))
    run_state_machine_as_test(
        machine(address, SERVERS[kind]),
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            derandomize=True,
        ),
    )  # fmt: skip


def _sqlite() -> Any:
    import tempfile
    from contextlib import contextmanager

    @contextmanager
    def place() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            yield Address(f"sqlite:///{folder}/outlast.db")

    return place()


@pytest.mark.parametrize(("kind", "examples"), [("sqlite", 20), ("postgresql", 5)])
def test_limits_hold_at_every_committed_state_and_no_key_starves(kind: str, examples: int, request: pytest.FixtureRequest) -> None:
    check(kind, request, examples=examples, steps=25)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_limits_hold_at_every_committed_state_for_long(kind: str, request: pytest.FixtureRequest) -> None:
    check(kind, request, examples=150, steps=50)
