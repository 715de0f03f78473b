"""What people ask of a run: cancel, reschedule, tag."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import cancelling
from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.change import Change
from outlast.model.limits import MAX_TAGS
from outlast.model.refusal import Refusal
from outlast.model.requests import AddTags, Cancel, CancelChildren, Reschedule
from outlast.model.run import Run

CASCADE = 200  # children cancelled in one transaction


def _needs_run(item: Cancel | Reschedule | AddTags, wants: Rows) -> None:
    wants.runs.add(item.run_id)


def _not_found() -> Refusal:
    return Refusal("not_found", "Run not found")


@operation(needs=_needs_run)
def cancel(view: View, c: Cancel) -> Run | Refusal:
    """CANCELED for users at once. A run that is over stays as it is, and that is no error."""
    run = view.run(c.run_id, c.env_id)
    if run is None:
        return _not_found()
    return cancelling.cancel(view, run, reason=c.reason)


def _needs_children(c: CancelChildren, wants: Rows) -> None:
    wants.runs.update(c.children)
    wants.runs.add(c.parent_id)
    if c.for_attempt:
        wants.data.update(c.children)


@operation(needs=_needs_children)
def cancel_children(view: View, c: CancelChildren) -> int:
    """One step of the cascade. The work item stays until a look under the parent's lock finds no child any more."""
    cancelled = 0
    cancelling.need_waiters(view, [view.run(child) for child in c.children])
    for child in c.children:
        run = view.run(child)
        if run is not None and not run.is_final and not (c.for_attempt and cancelling.outlives_attempt(view, run)):
            cancelling.cancel(view, run, reason=c.reason.replace("{parent}", c.parent_id))
            cancelled += 1
    if not c.children:
        view.writes.gone_work.append((c.work_id,))
    return cancelled


@operation(needs=_needs_run)
def reschedule(view: View, r: Reschedule) -> Run | Refusal:
    run = view.run(r.run_id, r.env_id)
    if run is None:
        return _not_found()
    return view.apply(lifecycle.reschedule(run, due_at=r.due_at, now=view.now))


def _needs_run_and_data(item: AddTags, wants: Rows) -> None:
    wants.runs.add(item.run_id)
    wants.data.add(item.run_id)


@operation(needs=_needs_run_and_data)
def add_tags(view: View, a: AddTags) -> list[str] | Refusal:
    """At most ten tags in all; those it has already are not counted twice."""
    run, data = view.run(a.run_id, a.env_id), view.data.get(a.run_id)
    if run is None or data is None:
        return _not_found()
    new = [tag for tag in dict.fromkeys(a.tags) if tag not in data.options.tags]
    tags = [*data.options.tags, *new]
    if len(tags) > MAX_TAGS:
        return Refusal("invalid", f"Runs can only have {MAX_TAGS} tags, and this one has {len(data.options.tags)}")
    if new:
        options = replace(data.options, tags=tags)
        view.data[run.id] = replace(data, options=options)
        view.writes.options[run.id] = options
        view.writes.tags.extend((run.env_id, tag, run.id) for tag in new)
        view.apply(Change(replace(run, updated_at=view.now), "tagged"))  # whoever watches the run, or the tag, must hear of it
    return tags
