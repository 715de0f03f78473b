"""A run is cancelled: what its task wants of that, if its code waits."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import View
from outlast.model import ending
from outlast.model.refusal import Refusal
from outlast.model.run import Run
from outlast.store import journal


def cancel(view: View, run: Run, *, reason: str) -> Run | Refusal:
    """CANCELED for users at once. A run that is over is a refusal."""
    cleans_up = ending.is_suspended(run) and _cleans_up(view, run)
    return view.apply(ending.cancel(run, reason=reason, now=view.now, cleans_up=cleans_up, is_away=cleans_up and view.is_away(run)))


def need_waiters(view: View, runs: Sequence[Run | None]) -> None:
    """Before many runs are cancelled at once: the rows of all who wait for them."""
    ending = [run for run in runs if run is not None and not run.is_final]
    waiters = journal.waiters(view.tx, [run.id for run in ending if run.pending_waits])()
    batches = [batch for run in ending if run.batch_id and (batch := view.batches.get(run.batch_id)) is not None]
    parents = [(one.parent_id, one.parent_key) for one in (*ending, *batches)]
    view.need([*waiters, *[(parent, key) for parent, key in parents if parent is not None and key is not None]])


def _cleans_up(view: View, run: Run) -> bool:
    definition = view.catalog.definition(view.tx, run.env_id, run.version, run.task)
    return definition is not None and definition.cancel_replays


def outlives_attempt(view: View, child: Run) -> bool:
    """It goes on when its parent's next attempt begins: it is detached, or that attempt finds it again by its idempotency key."""
    data = view.data.get(child.id)
    if data is None:
        raise NeedsLock(Rows(data={child.id}))
    return bool(child.detached) or data.options.idempotency_key_hash is not None
