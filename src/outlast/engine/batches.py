"""Batches whose items do not come."""

from __future__ import annotations

from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.triggers import SEAL_TIMER
from outlast.engine.view import View
from outlast.model.requests import AbortBatch


def _needs(a: AbortBatch, wants: Rows) -> None:
    wants.batches.add(a.batch_id)


@operation(needs=_needs)
def abort(view: View, a: AbortBatch) -> None:
    """Its time to be whole is over: no item is taken any more. Runs that were made go on."""
    if a.due_at > view.now:
        return
    view.writes.gone_timers.add((a.due_at, SEAL_TIMER, a.batch_id))
    batch = view.batch(a.batch_id)
    if batch is not None and batch.sealed_at is None and batch.aborted_at is None:
        batch.aborted_at = view.now
        view.touch_batch(batch)
