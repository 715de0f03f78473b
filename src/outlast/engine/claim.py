"""The claim, the last phase of every flush: free slots of connected workers take the oldest entries of open lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.journal import Entry
from outlast.model.lane import Candidate, route, share
from outlast.model.manifest import TaskDefinition
from outlast.model.messages import Kind
from outlast.model.refusal import Refusal
from outlast.model.run import Execution, Run, RunData
from outlast.store import catalog, journal, lanes, runs
from outlast.store.catalog import Environment

MAX_CLAIMS = 200  # a flush stays short enough for the interactive calls behind it
ADVISORY_CLASS = 7079832  # environments' limits are counted under this PostgreSQL lock class


@dataclass(slots=True)
class Demand:
    """The free slots of one executor, for runs of one kind."""

    env_id: int
    session: str
    version: str
    executor: str
    kind: Kind
    free: int


class Claimed(msgspec.Struct, frozen=True):
    """A run on its way to an executor. It is started already."""

    run: Run
    data: RunData
    session: str
    executor: str
    definition: TaskDefinition | None
    environment: Environment
    before: Run  # as it was: who had its coroutine
    entries: list[Entry] = []

    @property
    def is_hot(self) -> bool:
        """It goes on in the executor that has its coroutine."""
        return bool(self.before.resuming) and (self.before.held_by, self.before.executor) == (self.session, self.executor)


@dataclass(slots=True)
class Claims:
    """What a flush took, the environments it looked at, and those that have more to give."""

    taken: list[Claimed] = field(default_factory=list[Claimed])
    looked: set[int] = field(default_factory=set[int])
    more: set[int] = field(default_factory=set[int])


@dataclass(slots=True)
class Group:
    """Executors of one kind and version: whatever route one of them takes from, all do."""

    routes: list[str]
    demands: list[Demand]

    @property
    def wanted(self) -> int:
        return min(sum(demand.free for demand in self.demands), MAX_CLAIMS)


def claim(view: View, demands: Sequence[Demand]) -> Claims:
    claims = Claims()
    by_env: dict[int, dict[tuple[str, Kind], list[Demand]]] = {}
    for demand in demands:
        if demand.free > 0:
            by_env.setdefault(demand.env_id, {}).setdefault((demand.version, demand.kind), []).append(demand)
    for env_id, found in sorted(by_env.items()):
        claims.looked.add(env_id)
        _claim_for(view, claims, env_id, found)
    return claims


def _claim_for(view: View, claims: Claims, env_id: int, found: dict[tuple[str, Kind], list[Demand]]) -> None:
    """One round trip to look, one to take."""
    # the cached version is a guess: if another server has promoted one, the environment's row says so, and we look again
    version = view.catalog.environment(view.tx, env_id).current_version
    groups = _groups(found, version)
    env, held, candidates = _look(view, env_id, groups)
    if env.current_version != version:
        view.catalog.forget()
        claims.more.add(env_id)
        return
    room = min(env.room - held, MAX_CLAIMS - len(claims.taken))
    if env.paused or room <= 0:
        return
    take, is_full = _shared(view, groups, candidates, room, env)
    if not take:
        return
    picked, there = _pick(view, take, {c.base_id for c in chain(*candidates) if c.lane_id in take})
    by_route = {route: group for group in groups for route in group.routes}
    started = [begun for run in picked if (begun := _start(view, run, by_route[run.route].demands, env)) is not None]
    claims.taken.extend(
        Claimed(run, _NO_DATA, session, executor, view.catalog.definition(view.tx, env_id, run.version, run.task), env, before)
        for run, session, executor, before in started
    )
    if len(started) < there or len(claims.taken) >= MAX_CLAIMS or is_full:
        # expired entries made room, a run was held by somebody, or there is more than one flush takes.
        # A lane that somebody held was passed over, and whoever held it wakes us at its commit
        claims.more.add(env_id)


def _groups(found: dict[tuple[str, Kind], list[Demand]], current: str | None) -> list[Group]:
    return [
        Group([route(version, kind), *([route(None, kind)] if version == current else [])], demands)
        for (version, kind), demands in sorted(found.items())
    ]


def _look(view: View, env_id: int, groups: Sequence[Group]) -> tuple[Environment, int, list[list[Candidate]]]:
    """The environment, the slots that are held in it, and for each group the lanes with something to do."""
    if view.tx.is_postgres:  # two servers must not both see the last place of an environment
        view.tx.send("SELECT pg_advisory_xact_lock(:class, :env)", **{"class": ADVISORY_CLASS, "env": env_id})
    asked_env = catalog.ask_environment(view.tx, env_id)
    asked_held = lanes.slots_held(view.tx, env_id)
    asked = [lanes.candidates(view.tx, env_id, group.routes, group.wanted) for group in groups]
    env = asked_env()
    return env, asked_held(), [candidates(env.limit) for candidates in asked]


def _shared(
    view: View, groups: Sequence[Group], candidates: Sequence[Sequence[Candidate]], room: int, env: Environment
) -> tuple[dict[int, int], bool]:
    """How many runs to take from each lane, and whether there may be more lanes than were looked at.

    Groups take from the same bases and the same environment, one after the other.
    """
    take: dict[int, int] = {}
    taken: dict[int, int] = {}
    is_full = False
    for group, found in zip(groups, candidates, strict=True):
        wanted = min(group.wanted, room)
        if wanted <= 0:
            break
        left = [Candidate(c.lane_id, c.base_id, c.free - taken.get(c.base_id, 0)) for c in found[:wanted]]
        shares = {lane_id: n for lane_id, n in share(left, wanted).items() if n > 0}
        for c in left:
            taken[c.base_id] = taken.get(c.base_id, 0) + shares.get(c.lane_id, 0)
        take.update(shares)
        room -= sum(shares.values())
        is_full = is_full or len(found) >= wanted
    return take, is_full


def _pick(view: View, take: dict[int, int], bases: set[int]) -> tuple[list[Run], int]:
    """The runs, and how many there should have been. The candidates' statement holds the bases already."""
    known = {lane.base_id for lane in view.lanes.values()}
    asked_lanes = lanes.lock(view.tx, bases - known)
    picked = lanes.pick(view.tx, take)
    for lane in asked_lanes():
        view.lanes[lane.id] = lane
    return picked(), sum(min(n, view.lanes[lane_id].queued) for lane_id, n in take.items())


_NO_DATA = RunData(run_id="")


def _start(view: View, run: Run, group: list[Demand], env: Environment) -> tuple[Run, str, str, Run] | None:
    known = view.runs.get(run.id)
    run = known if known is not None else run
    view.runs.setdefault(run.id, run)
    view.loaded.runs.add(run.id)
    if run.execution is not Execution.QUEUED or run.lane_id is None:
        return None
    if run.due_at is not None and run.due_at <= view.now and run.started_at is None:
        _expire(view, run)
        return None
    demand = _who(run, group)
    started = view.apply(
        lifecycle.claim(run, session=demand.session, version=demand.version, pin=not env.is_dev, executor=demand.executor, now=view.now)
    )
    if isinstance(started, Refusal):
        return None
    view.catalog.remember_parent(started)
    view.take_slot(started, session=demand.session, executor=demand.executor)
    demand.free -= 1
    return started, demand.session, demand.executor, run


def _who(run: Run, group: list[Demand]) -> Demand:
    """The executor that has the run's coroutine, if it has room; else the one with the most."""
    if run.resuming:
        for demand in group:
            if demand.free > 0 and (demand.session, demand.executor) == (run.held_by, run.executor):
                return demand
    return max(group, key=lambda d: d.free)


def _expire(view: View, run: Run) -> None:
    """A batch's row may not be locked here; then upkeep ends the run a moment later."""
    if run.batch_id is None or run.batch_id in view.batches:
        view.apply(lifecycle.expire(run, now=view.now))


def add_data(view: View, claims: Claims) -> None:
    """What the executors need of the claimed runs. Asked for behind the writes, so that it costs no round trip of its own."""
    if not claims.taken:
        return
    asked_data = runs.ask_data(view.tx, [c.run.id for c in claims.taken if c.run.id not in view.data])
    # the first claim of a run has no journal
    asked_hot = journal.unseen(view.tx, [c.run.id for c in claims.taken if c.is_hot])
    asked_cold = journal.whole(view.tx, [c.run.id for c in claims.taken if c.run.epoch > 1 and not c.is_hot])
    view.data.update(asked_data())
    entries = {**asked_hot(), **asked_cold()}
    claims.taken = [
        msgspec.structs.replace(c, data=view.data.get(c.run.id) or RunData(run_id=c.run.id), entries=entries.get(c.run.id) or [])
        for c in claims.taken
    ]
