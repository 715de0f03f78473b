"""The first phase of a flush: every row its operations need, locked once, in one global order.

The order is sessions, runs, batches, idempotency keys, debounce keys, gates, schedules, lanes; inside a kind by id.
Whoever keeps to it cannot deadlock.
"""

from __future__ import annotations

from outlast.engine import flow
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import View
from outlast.model.lane import alone_route, held_route, home_route
from outlast.model.limits import ALONE_LOSSES
from outlast.model.run import HOLDS_SLOT, Execution, Run
from outlast.store import batches, idempotency, journal, lanes, runs, sessions, waitpoints
from outlast.store.lanes import LaneKey

BASE_ROUTE = "current"
ROOMY = 500  # claims of two flushes and more


def load(view: View, wants: Rows) -> None:
    """What does not depend on each other is asked for at once: on PostgreSQL a round trip costs more than a row."""
    tx = view.tx
    view.loaded = wants
    _look_around(view, wants)
    asked_sessions = sessions.lock(tx, wants.sessions)
    asked_runs = runs.lock(tx, wants.runs | wants.light)
    asked_tokens = waitpoints.lock(tx, wants.tokens)
    asked_data = runs.ask_data(tx, wants.data)
    asked_entries = journal.find(tx, wants.entries)
    view.sessions, view.runs, view.tokens = asked_sessions(), asked_runs(), asked_tokens()
    view.data, view.entries = asked_data(), asked_entries()
    wants.batches.update(run.batch_id for run in view.runs.values() if run.batch_id is not None and run.finished_at is None)
    view.batches = batches.lock(tx, wants.batches)
    if wants.keys:
        view.keys = idempotency.holders(tx, wants.keys, lock=True)
        if moved := {holder[0] for holder in view.keys.values()} - wants.runs:
            raise NeedsLock(Rows(runs=moved))
    flow.load(tx, view.flow, wants)
    if wants.hashes:
        final = [run_id for run_id in wants.hashes if (run := view.runs.get(run_id)) is not None and run.is_final]
        view.hashes = runs.result_hashes(tx, final)
    _load_lanes(view, wants)


def _look_around(view: View, wants: Rows) -> None:
    """Read without a lock which other rows belong to these, so that all can be locked in one order; the locks find out what moved."""
    tx = view.tx
    strangers = [run_id for run_id in wants.hashes if not view.catalog.knows_parent(run_id)]
    asked_answers = idempotency.answers(tx, wants.requests)
    asked_parents = runs.parents(tx, strangers)  # of runs that end now; others find out in the fold
    asked_waiters = journal.waiters(tx, wants.tokens)
    view.batch_items = batches.items_at(tx, wants.batch_items)
    holders = idempotency.holders(tx, wants.keys) if wants.keys else {}
    flow.wanted_runs(tx, wants)
    view.requests = asked_answers()
    wants.runs.update(holder[0] for holder in holders.values())
    wants.runs.update(answer[0] for answer in view.requests.values() if answer[0].startswith("run_"))
    parents = [found for run_id in wants.hashes if (found := view.catalog.parent(run_id)) is not None]
    for run_id, journal_key in [*parents, *asked_parents(), *asked_waiters()]:
        wants.runs.add(run_id)
        wants.entries.add(f"{run_id}:{journal_key}")


def _load_lanes(view: View, wants: Rows) -> None:
    """The lanes of entries and slots of the loaded runs, and those that new entries go to."""
    tx = view.tx
    placed = [run for run in view.runs.values() if run.id in wants.runs and run.execution is not Execution.FINISHED]
    held = {run.lane_id for run in placed if run.lane_id is not None}
    bases = _bases(view, held)
    for queue_id in wants.queue_lanes:
        bases |= lanes.lanes_of_queue(tx, queue_id)
    for run in placed:
        waits = run.execution in (Execution.DELAYED, Execution.SUSPENDED) or (
            run.execution is Execution.QUEUED and (run.lane_id is None or home_route(run.route) != run.route)
        )
        if run.queue_id is not None and (waits or run.id in wants.requeued):
            for name in _next_routes(view, run):
                wants.lanes[(run.queue_id, run.concurrency_key or "", name)] = run.env_id
    resolved: dict[LaneKey, tuple[int, int]] = {}
    missing: dict[LaneKey, int] = {}
    for key, env_id in wants.lanes.items():
        ids = view.catalog.lane(key)
        if ids is None:
            missing[key] = env_id
        else:
            resolved[key] = ids
    for key, env_id in sorted(missing.items()):
        ids = lanes.find(tx, key)
        if ids is None:
            lanes.create(tx, env_id, [key], {key: BASE_ROUTE, (key[0], key[1], BASE_ROUTE): BASE_ROUTE}, view.now)
            ids = lanes.find(tx, key)
        if ids is None:  # upkeep deletes it at this moment; at the next look it is gone, and made anew
            raise NeedsLock(Rows())
        resolved[key] = ids
        view.new_lanes[key] = ids
    bases |= {base for _, base in resolved.values()}
    asked_held = {env_id: lanes.slots_held(tx, env_id) for env_id in {run.env_id for run in placed if run.lane_id is not None}}
    view.lanes = {lane.id: lane for lane in lanes.lock(tx, bases)()}
    view.roomy = {env_id for env_id, held in asked_held.items() if _is_roomy(view, env_id, held())}
    for key, (lane_id, _) in resolved.items():
        if lane_id not in view.lanes:  # upkeep deleted it when it had been idle
            view.catalog.forget_lane(key)
            raise NeedsLock(Rows())
        view.lane_ids[key] = lane_id


def _next_routes(view: View, run: Run) -> list[str]:
    """The lanes it may go to from here: that of its worker, when it is to go on and the worker is elsewhere; one for suspects."""
    if run.execution is Execution.SUSPENDED and run.held_by is not None and view.is_away(run):
        return [held_route(run.held_by, run.route)]
    home = home_route(run.route)
    return [home, alone_route(home)] if run.losses + 1 >= ALONE_LOSSES and run.execution in HOLDS_SLOT else [home]


def _bases(view: View, lane_ids: set[int]) -> set[int]:
    known = {lane_id: base for lane_id in lane_ids if (base := view.catalog.base(lane_id)) is not None}
    return set(known.values()) | lanes.base_ids(view.tx, lane_ids - known.keys())


def _is_roomy(view: View, env_id: int, held: int) -> bool:
    """So far from its limit that no lane waits for the environment, whatever other servers claim while this flush lasts.

    A guess, from a count without a lock: a wrong one costs a poll.
    """
    env = view.catalog.environment(view.tx, env_id)
    # a combined limit is shared by lanes that a flush does not see
    return env.room >= ROOMY and held < env.room // 2 and not env.controlled
