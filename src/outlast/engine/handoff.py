"""The hand-off: a new entry that nothing stands before goes to a free slot at once, inside the flush that made it.

It is never written as an entry, and nobody has to look for it. Whatever needs a second look is left to the claim.
"""

from __future__ import annotations

from collections.abc import Sequence

from outlast.engine.claim import MAX_CLAIMS, Claims, Demand, ask_open, groups_of, hold_environment, only_open, start
from outlast.engine.view import View
from outlast.model.lane import effective_limit
from outlast.model.run import Execution, Run
from outlast.store import lanes
from outlast.store.catalog import Environment


def hand_off(view: View, demands: Sequence[Demand], claims: Claims) -> None:
    """Start what was queued in this flush, and wake whom it concerns for what is left."""
    fresh: dict[int, list[Run]] = {}
    for run_id in view.queued:
        run = view.runs[run_id]
        if run.execution is Execution.QUEUED and run_id in view.writes.entries:
            fresh.setdefault(run.env_id, []).append(run)
    for env_id, found in sorted(fresh.items()):
        first = _first_in_line(view, found)
        if not first or not _begin(view, claims, env_id, first, demands) or len(first) < len(found):
            view.woken.add(env_id)


def _first_in_line(view: View, found: Sequence[Run]) -> list[Run]:
    """Those of lanes that hold nothing but them, oldest first."""
    new: dict[int, int] = {}
    for run in found:
        assert run.lane_id is not None
        new[run.lane_id] = new.get(run.lane_id, 0) + 1
    alone = {lane_id for lane_id, n in new.items() if view.lanes[lane_id].queued == n}
    return sorted((run for run in found if run.lane_id in alone), key=lambda run: (run.pos, run.id))


def _begin(view: View, claims: Claims, env_id: int, waiting: Sequence[Run], demands: Sequence[Demand]) -> bool:
    """Whether all of them were started."""
    version = view.catalog.environment(view.tx, env_id).current_version
    groups = {route: group for group in groups_of(demands, env_id, version) for route in group.routes}
    waiting_here = [run for run in waiting if run.route in groups]
    if not waiting_here:
        return False
    asked_env, asked_held = hold_environment(view, env_id)
    asked_open = ask_open(view, list(groups.values()))
    asked_limits = lanes.limits(view.tx, {view.lanes[run.lane_id].base_id for run in waiting_here if run.lane_id is not None})
    env, held, limits = asked_env(), asked_held(), asked_limits()
    only_open(list(groups.values()), asked_open())
    if env.paused or env.current_version != version:
        return False
    room = min(env.room - held, MAX_CLAIMS - len(claims.taken))
    started = 0
    for run in waiting_here:
        group = groups[run.route]
        if started >= room or group.wanted <= 0:
            break
        if _has_room(view, run, limits, env) and start(view, claims, run, group, env):
            started += 1
    return started == len(waiting)


def _has_room(view: View, run: Run, limits: dict[int, tuple[int | None, int | None, bool]], env: Environment) -> bool:
    assert run.lane_id is not None
    base = view.lanes[view.lanes[run.lane_id].base_id]
    limit, override, paused = limits[base.id]
    return not paused and base.used < effective_limit(limit, override, env.limit)
