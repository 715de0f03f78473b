"""Attempts: what a worker reports of the runs it holds, every write fenced by run and epoch."""

from __future__ import annotations

from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.refusal import Refusal
from outlast.model.requests import AppendLogs, Complete, Completed, GiveBack, Lose
from outlast.model.run import Execution, Run


def _needs_run_and_hash(c: Complete, wants: Rows) -> None:
    wants.runs.add(c.run_id)
    wants.hashes.add(c.run_id)


@operation(needs=_needs_run_and_hash)
def complete(view: View, c: Complete) -> Completed | Refusal:
    """The end of an attempt. An exact repeat gets the recorded answer; anything else with an old fence is refused."""
    run = view.run(c.run_id)
    if run is None:
        return Refusal("not_found", f"run {c.run_id} does not exist")
    if run.execution is Execution.FINISHED and run.epoch == c.result.epoch and run.attempt == c.result.attempt:
        if view.hashes.get(run.id) == c.result.hash:
            return Completed(repeat=True)
        if not lifecycle.fence(run, c.result.epoch):
            return Refusal("result_conflict", f"run {run.id} already ended with another result")
    if c.result.outcome == "retry" and run.epoch == c.result.epoch and run.attempt == c.result.attempt + 1 and not run.is_final:
        return Completed(attempt=run.attempt, repeat=True)  # the answer was lost: the next attempt is recorded already
    done = view.apply(lifecycle.complete(run, c.result, now=view.now))
    if isinstance(done, Refusal):
        return done
    return Completed(attempt=done.attempt if done.execution is Execution.EXECUTING else None)


def _needs_requeue(item: GiveBack | Lose, wants: Rows) -> None:
    wants.runs.add(item.run_id)
    wants.requeued.add(item.run_id)


@operation(needs=_needs_requeue)
def give_back(view: View, g: GiveBack) -> Run | Refusal:
    """A run that did not begin, or must go on elsewhere: its attempt is not counted."""
    run = view.run(g.run_id)
    if run is None:
        return Refusal("not_found", f"run {g.run_id} does not exist")
    if refusal := lifecycle.fence(run, g.epoch):
        return refusal
    return view.apply(lifecycle.give_back(run, reason=g.reason, now=view.now))


@operation(needs=_needs_requeue)
def lose(view: View, item: Lose) -> Run | Refusal:
    """The executor or worker that held the run is gone."""
    run = view.run(item.run_id)
    if run is None:
        return Refusal("not_found", f"run {item.run_id} does not exist")
    is_dev = view.catalog.environment(view.tx, run.env_id).is_dev
    change = lifecycle.lose(run, epoch=item.epoch, started=item.started, give_up=item.stalled and is_dev, now=view.now)
    return view.apply(change)


def _needs_nothing(_: AppendLogs, __: Rows) -> None:
    return


@operation(needs=_needs_nothing)
def append_logs(view: View, item: AppendLogs) -> None:
    """Logs are taken as they come, also from an attempt that is over: they say what happened."""
    view.writes.logs.extend(item.lines)
