"""Queues and environments: pause, resume, override. What runs goes on; lowering a limit never kills."""

from __future__ import annotations

from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model.flow import OverrideLimit, PauseEnvironment, PauseQueue, ReopenQueue
from outlast.model.refusal import Refusal
from outlast.store import catalog


def _needs_lanes(item: PauseQueue | OverrideLimit | ReopenQueue, wants: Rows) -> None:
    wants.queue_lanes.add(item.queue_id)


def _reopen(view: View, env_id: int, queue_id: int) -> None:
    view.writes.bases.update(lane.base_id for lane in view.lanes.values() if lane.queue_id == queue_id)
    view.woken.add(env_id)
    view.catalog_changed = True


@operation(needs=_needs_lanes)
def pause_queue(view: View, p: PauseQueue) -> bool | Refusal:
    queue = catalog.queue(view.tx, p.env_id, id=p.queue_id)
    if queue is None:
        return Refusal("not_found", "queue-not-found")
    catalog.pause_queue(view.tx, queue.id, p.paused)
    _reopen(view, p.env_id, queue.id)
    return True


@operation(needs=_needs_lanes)
def override_limit(view: View, o: OverrideLimit) -> bool | Refusal:
    """An override stays, also across deploys, until it is taken back."""
    queue = catalog.queue(view.tx, o.env_id, id=o.queue_id)
    if queue is None:
        return Refusal("not_found", "queue-not-found")
    env = catalog.environment(view.tx, o.env_id)
    if o.limit is None and queue.overridden_at is None:
        return Refusal("not_overridden", f"the limit of queue {queue.name} is not overridden")
    if o.limit is not None and o.limit > env.limit:
        return Refusal("above_maximum", f"a queue's limit cannot be above the environment's, {env.limit}")
    catalog.override_limit(view.tx, queue.id, limit=o.limit, by=o.by, now=None if o.limit is None else view.now)
    _reopen(view, o.env_id, queue.id)
    return True


@operation(needs=_needs_lanes)
def reopen_queue(view: View, r: ReopenQueue) -> None:
    _reopen(view, r.env_id, r.queue_id)
    view.writes.gone_work.append((r.work_id,))


def _needs_nothing(_: PauseEnvironment, __: Rows) -> None:
    return


@operation(needs=_needs_nothing)
def pause_environment(view: View, p: PauseEnvironment) -> bool:
    catalog.pause_environment(view.tx, p.env_id, p.paused)
    view.woken.add(p.env_id)
    view.catalog_changed = True
    view.catalog.forget()
    return True
