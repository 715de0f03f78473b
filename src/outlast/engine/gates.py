"""Gates: runs that must not execute side by side. Singleton tasks have one per task and concurrency key, schedules one of their own."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.engine import cancelling
from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model import lifecycle
from outlast.model.flow import Admit
from outlast.model.requests import GateMode, Trigger
from outlast.model.run import Execution, Run, Status
from outlast.store import gates

STEP = 50  # runs in line that are looked at at once: those in front may have been cancelled


def of(view: View, t: Trigger) -> tuple[str, GateMode] | None:
    """The gate of a trigger, and what happens when it is taken."""
    if t.gate is not None:
        return t.gate
    definition = view.place(t.env_id, t.task, t.queue, t.locked_version).definition
    if definition is None or definition.singleton is None:
        return None
    return f"task:{t.task}:{t.concurrency_key or ''}", definition.singleton


def skipped(view: View, env_id: int, gate: tuple[str, GateMode]) -> Run | None:
    """The run that is there already, if this one is not to be made; the one before is cancelled if it gives way."""
    name, mode = gate
    holder = _busy(view, env_id, name)
    if holder is None or mode == "queue":
        return None
    if mode == "skip":
        return holder
    if not holder.is_final:
        cancelling.cancel(view, holder, reason="A newer run took its place")
    return None


def enter(view: View, run: Run, gate: tuple[str, GateMode]) -> Run:
    """The new run takes the gate, or its place in the line."""
    name, mode = gate
    key = (run.env_id, name)
    if mode != "queue":
        view.flow.hold(key, run.id)
        return run
    holder = _busy(view, run.env_id, name)
    if holder is not None and holder.gate is None:  # the policy was another one when it began
        view.runs[holder.id] = replace(holder, gate=name)
        view.writes.changed.add(holder.id)
    in_line = holder is not None or view.flow.new_waiters(key) or gates.waiting(view.tx, key, 1)
    if not in_line:
        view.flow.hold(key, run.id)
        return replace(run, gate=name)
    view.flow.waiting[run.id] = key
    return replace(run, gate=name, gated=1, execution=Execution.DELAYED, status=Status.DELAYED)


def _busy(view: View, env_id: int, name: str) -> Run | None:
    holder_id = view.flow.holder((env_id, name))
    holder = view.run(holder_id) if holder_id is not None else None
    return holder if holder is not None and holder.execution is not Execution.FINISHED else None


def _needs_gate(a: Admit, wants: Rows) -> None:
    wants.gates.add((a.env_id, a.name))


@operation(needs=_needs_gate)
def admit(view: View, a: Admit) -> None:
    """The holder may be over: the oldest run in line is next. However often this is done, one at a time gets in."""
    view.writes.gone_work.append((a.work_id,))
    if _busy(view, a.env_id, a.name) is not None:
        return
    key = (a.env_id, a.name)
    for run_id in [*gates.waiting(view.tx, key, STEP), *view.flow.new_waiters(key)]:
        if run_id in view.flow.admitted:
            continue
        run = view.run(run_id)
        if run is None or not run.gated or run.is_final:
            view.flow.admitted[run_id] = key
            continue
        view.apply(lifecycle.admit(run, now=view.now))
        if view.flow.waiting.pop(run_id, None) is None:
            view.flow.admitted[run_id] = key
        view.flow.hold(key, run_id)
        return
