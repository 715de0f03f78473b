"""The claim, the last phase of every flush: free slots of connected workers take the oldest entries of open lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.journal import Entry
from outlast.model.lane import route, share
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


def claim(view: View, demands: Sequence[Demand]) -> Claims:
    claims = Claims()
    groups: dict[tuple[int, str, Kind], list[Demand]] = {}
    for demand in demands:
        if demand.free > 0:
            groups.setdefault((demand.env_id, demand.version, demand.kind), []).append(demand)
    for (env_id, version, kind), group in sorted(groups.items()):
        _claim_for(view, claims, env_id, version, kind, group)
    _add_data(view, claims)
    return claims


def _claim_for(view: View, claims: Claims, env_id: int, version: str, kind: Kind, group: list[Demand]) -> None:
    claims.looked.add(env_id)
    env = catalog.environment(view.tx, env_id)
    if env.paused:
        return
    routes = [route(version, kind)]
    if version == env.current_version:
        routes.append(route(None, kind))
    wanted = min(sum(demand.free for demand in group), MAX_CLAIMS - len(claims.taken))
    room = min(wanted, _room(view, env))
    if room <= 0:
        return
    candidates = lanes.candidates(view.tx, env_id, routes, env.limit, room)
    take = {lane_id: n for lane_id, n in share(candidates, room).items() if n > 0}
    if not take:
        return
    _lock_lanes(view, {c.base_id for c in candidates if c.lane_id in take})
    there = sum(min(n, view.lanes[lane_id].queued) for lane_id, n in take.items())
    picked = lanes.pick(view.tx, take)
    started = [found for run in picked if (found := _start(view, run, group, env)) is not None]
    claims.taken.extend(
        Claimed(run, _NO_DATA, session, executor, view.catalog.definition(view.tx, env_id, run.version, run.task), env, before)
        for run, session, executor, before in started
    )
    if len(started) < there or len(claims.taken) >= MAX_CLAIMS or len(candidates) >= room:
        # expired entries made room, a run was held by somebody, or there is more than one flush takes.
        # A lane that somebody held was passed over, and whoever held it wakes us at its commit
        claims.more.add(env_id)


_NO_DATA = RunData(run_id="")


def _room(view: View, env: Environment) -> int:
    """What the environment's limit leaves. Counted under a lock on PostgreSQL: two servers must not both see the last place."""
    if view.tx.is_postgres:
        view.tx.send("SELECT pg_advisory_xact_lock(:class, :env)", **{"class": ADVISORY_CLASS, "env": env.id})
    return env.room - lanes.slots_held(view.tx, env.id)


def _lock_lanes(view: View, bases: set[int]) -> None:
    """The counters of the lanes the claim changes; the candidates' statement holds their bases already."""
    known = {lane.base_id for lane in view.lanes.values()}
    for lane in lanes.lock(view.tx, bases - known):
        view.lanes[lane.id] = lane


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


def _add_data(view: View, claims: Claims) -> None:
    if not claims.taken:
        return
    missing = [c.run.id for c in claims.taken if c.run.id not in view.data]
    view.data.update(runs.data(view.tx, missing))
    # the first claim of a run has no journal
    hot = journal.unseen(view.tx, ids) if (ids := [c.run.id for c in claims.taken if c.is_hot]) else {}
    cold = journal.whole(view.tx, ids) if (ids := [c.run.id for c in claims.taken if c.run.epoch > 1 and not c.is_hot]) else {}
    claims.taken = [
        msgspec.structs.replace(
            c,
            data=view.data.get(c.run.id) or RunData(run_id=c.run.id),
            entries=hot.get(c.run.id) or cold.get(c.run.id) or [],
        )
        for c in claims.taken
    ]
