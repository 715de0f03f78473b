"""The claim, the last phase of every flush: free slots of connected workers take the oldest entries of open lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec
from msgspec.structs import replace

from outlast.engine.rates import Budgets
from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.journal import Entry
from outlast.model.lane import Candidate, alone_route, held_route, route, share
from outlast.model.manifest import Kind, TaskDefinition
from outlast.model.refusal import Refusal
from outlast.model.run import Execution, Run, RunData
from outlast.store import catalog, journal, lanes, rates, runs, sessions
from outlast.store.catalog import Environment
from outlast.store.database import Later

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


class Claims(msgspec.Struct):
    """What a flush took, the environments it looked at, and those that have more to give."""

    taken: list[Claimed] = []
    looked: set[int] = set()
    more: set[int] = set()


@dataclass(slots=True)
class Group:
    """Executors of one kind and version: whatever route one of them takes from, all do."""

    routes: list[str]
    demands: list[Demand]

    @property
    def wanted(self) -> int:
        return min(sum(demand.free for demand in self.demands), MAX_CLAIMS)


def claim(view: View, demands: Sequence[Demand], claims: Claims) -> None:
    """For all environments with free slots: one round trip to look, one to take."""
    for env_id in sorted({demand.env_id for demand in demands if demand.free > 0}):
        claims.looked.add(env_id)
        _claim_for(view, claims, env_id, demands)


def _claim_for(view: View, claims: Claims, env_id: int, demands: Sequence[Demand]) -> None:
    # the cached version is a guess: if another server has promoted one, the environment's row says so, and we look again
    version = view.catalog.environment(view.tx, env_id).current_version
    groups = groups_of(demands, env_id, version)
    env, held, candidates, budgets = _look(view, env_id, groups)
    view.locked()
    if env.current_version != version:
        view.catalog.forget()
        claims.more.add(env_id)
        return
    room = min(env.room - held, MAX_CLAIMS - len(claims.taken))
    if env.paused or room <= 0:
        return
    take, is_full = _shared(groups, candidates, room, budgets)
    if not take:
        return
    picked, there = _pick(view, take, {c.base_id for c in chain(*candidates) if c.lane_id in take and c.lane_id not in view.lanes})
    by_route = {route: group for group in groups for route in group.routes}
    before = len(claims.taken)
    started = sum(start(view, claims, run, by_route[run.route], env) for run in picked)
    if budgets.controls:
        keys = {c.lane_id: (c.queue_id, c.key) for c in chain(*candidates)}
        budgets.spend(view, [c.before for c in claims.taken[before:]], keys)
    if started < there or len(claims.taken) >= MAX_CLAIMS or is_full:
        # expired entries made room, a run was held by somebody, or there is more than one flush takes.
        # A lane that somebody held was passed over, and whoever held it wakes us at its commit
        claims.more.add(env_id)


def groups_of(demands: Sequence[Demand], env_id: int, current: str | None) -> list[Group]:
    found: dict[tuple[str, Kind], list[Demand]] = {}
    for demand in demands:
        if demand.env_id == env_id and demand.free > 0:
            found.setdefault((demand.version, demand.kind), []).append(demand)
    return [Group(_routes(version, kind, version == current, group), group) for (version, kind), group in sorted(found.items())]


def _routes(version: str, kind: Kind, is_current: bool, demands: Sequence[Demand]) -> list[str]:
    """What these executors may take: runs of their version, new ones if it is the current, and those that prefer one of them."""
    open_to_all = [route(version, kind), *([route(None, kind)] if is_current else [])]
    if kind == "process":
        open_to_all += [alone_route(name) for name in open_to_all]
    sessions = sorted({demand.session for demand in demands})
    return open_to_all + [held_route(session, home) for session in sessions for home in open_to_all]


def ask_open(view: View, groups: Sequence[Group]) -> Later[set[str]]:
    return sessions.open_among(view.tx, {demand.session for group in groups for demand in group.demands})


def only_open(groups: Sequence[Group], open_: set[str]) -> None:
    """A session that upkeep has closed here or elsewhere may still be connected: what it began would be lost at once."""
    for group in groups:
        for demand in group.demands:
            if demand.session not in open_:
                demand.free = 0


def hold_environment(view: View, env_id: int) -> tuple[Later[Environment], Later[int]]:
    """Its row, and how many slots are held in it. Two servers must not both see its last place."""
    if view.tx.is_postgres:
        view.tx.send("SELECT pg_advisory_xact_lock(:class, :env)", **{"class": ADVISORY_CLASS, "env": env_id})
    return catalog.ask_environment(view.tx, env_id), lanes.slots_held(view.tx, env_id)


def _look(view: View, env_id: int, groups: Sequence[Group]) -> tuple[Environment, int, list[list[Candidate]], Budgets]:
    """The environment, the slots that are held in it, for each group the lanes with something to do, and what they share."""
    asked_env, asked_held = hold_environment(view, env_id)
    asked_open = ask_open(view, groups)
    if not view.catalog.environment(view.tx, env_id).controlled:  # it becomes so with a new version, which we would notice
        asked = [lanes.candidates(view.tx, env_id, group.routes, group.wanted) for group in groups]
        env = asked_env()
        only_open(groups, asked_open())
        return env, asked_held(), [candidates(env.limit) for candidates in asked], Budgets()
    env, held = asked_env(), asked_held()
    only_open(groups, asked_open())
    budgets = Budgets(rates.controls(view.tx, env_id))
    blocked = budgets.blocked(view)
    asked = [lanes.candidates(view.tx, env_id, group.routes, group.wanted, blocked=blocked, now=view.now) for group in groups]
    return env, held, [budgets.capped(view, candidates(env.limit)) for candidates in asked], budgets


def _shared(groups: Sequence[Group], candidates: Sequence[Sequence[Candidate]], room: int, budgets: Budgets) -> tuple[dict[int, int], bool]:
    """How many runs to take from each lane, and whether there may be more lanes than were looked at.

    Groups take from the same bases and the same environment, one after the other: first whoever can start the oldest run.
    """
    take: dict[int, int] = {}
    taken: dict[int, int] = {}
    is_full = False
    some = [(group, found) for group, found in zip(groups, candidates, strict=True) if found]
    for group, found in sorted(some, key=lambda pair: pair[1][0].head):
        wanted = min(group.wanted, room)
        if wanted <= 0:  # no place is left, or its sessions are closed: others may be open
            continue
        left = [replace(c, free=c.free - taken.get(c.base_id, 0)) for c in found[:wanted]]
        shares = {lane_id: n for lane_id, n in share(left, wanted, budgets.left).items() if n > 0}
        for c in left:
            taken[c.base_id] = taken.get(c.base_id, 0) + shares.get(c.lane_id, 0)
        take.update(shares)
        room -= sum(shares.values())
        is_full = is_full or len(found) >= wanted
    return take, is_full


def _pick(view: View, take: dict[int, int], bases: set[int]) -> tuple[list[Run], int]:
    """The runs, and how many there should have been. The candidates' statement holds the bases already.

    `bases`: of lanes that are not loaded. Others of their lanes may be: a lane can be made while we wait for the lock of its base.
    """
    asked_lanes = lanes.lock(view.tx, bases)
    picked = lanes.pick(view.tx, take)
    for lane in asked_lanes():
        view.lanes.setdefault(lane.id, lane)
    return picked(), sum(min(n, view.lanes[lane_id].queued) for lane_id, n in take.items())


_NO_DATA = RunData(run_id="")


def start(view: View, claims: Claims, run: Run, group: Group, env: Environment) -> bool:
    """Give it to one of these executors; whether it was still there to be given."""
    run = view.runs.setdefault(run.id, run)
    view.loaded.runs.add(run.id)
    if run.execution is not Execution.QUEUED or run.lane_id is None:
        return False
    if run.due_at is not None and run.due_at <= view.now and run.started_at is None:
        _expire(view, run)
        return False
    demand = _who(run, group.demands)
    started = view.apply(
        lifecycle.claim(
            run, session=demand.session, version=demand.version, pin=not env.is_dev, executor=demand.executor,
            generation=view.tx.generation, now=view.now,
        )
    )  # fmt: skip
    if isinstance(started, Refusal):
        return False
    view.catalog.remember_parent(started)
    view.take_slot(started, session=demand.session, executor=demand.executor)
    demand.free -= 1
    definition = view.catalog.definition(view.tx, env.id, started.version, started.task)
    claims.taken.append(Claimed(started, _NO_DATA, demand.session, demand.executor, definition, env, run))
    return True


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
    # a run that goes on where it was needs what completed meanwhile; the first claim of a run has no journal
    hot = {c.run.id: _settled_here(view, c.run) for c in claims.taken if c.is_hot}
    asked_data = runs.ask_data(view.tx, [c.run.id for c in claims.taken if c.run.id not in view.data and c.run.id not in hot])
    asked_hot = journal.unseen(view.tx, [run_id for run_id, entries in hot.items() if entries is None])
    asked_cold = journal.whole(view.tx, [c.run.id for c in claims.taken if c.run.epoch > 1 and not c.is_hot])
    view.data.update(asked_data())
    entries = {**hot, **asked_hot(), **asked_cold()}
    claims.taken = [
        msgspec.structs.replace(c, data=view.data.get(c.run.id) or RunData(run_id=c.run.id), entries=entries.get(c.run.id) or [])
        for c in claims.taken
    ]


def _settled_here(view: View, run: Run) -> list[Entry] | None:
    """What completed since the run blocked, if this flush knows all of it."""
    found = {e.seq: e for id_ in view.settled.get(run.id, ()) if (e := view.entries[id_]).seq is not None}
    wanted = range(run.seen_seq, run.next_seq)
    return [found[seq] for seq in wanted] if all(seq in found for seq in wanted) else None
