"""A run as spans over time: its queue time, attempts, durable operations, children and lines, from what the database keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from outlast.model.journal import MAX_ENTRIES, Entry
from outlast.model.run import Execution, Run, Status
from outlast.store import events, trace
from outlast.store.database import Connection
from outlast.store.trace import Child, Line

MAX_LINES = 5_000
MAX_CHILDREN = 2_000
KINDS = {"step": "step", "wait": "wait", "token": "wait", "mark": "mark"}  # every other operation triggers runs
Change = tuple[int, str, int, dict[str, Any]]  # n, kind, at, data


class Span(NamedTuple):
    """`end` None: it goes on. `status`: ok, bad, run (goes on) or mute (given up)."""

    id: str
    parent: str | None
    name: str
    kind: str
    start: int
    end: int | None
    status: str = "ok"
    note: str = ""  # a log's level, a child's status
    href: str = ""


def spans(tx: Connection, run: Run) -> list[Span]:
    history = events.history(tx, run.id)
    end = run.finished_at
    found = [Span("run", None, run.task, "task", run.created_at, end, _outcome(run.status), run.status.value)]
    attempts = _attempts(run, history)
    found += _before(run, attempts) + attempts
    known = {a.id for a in attempts}
    children = trace.children(tx, run.id, MAX_CHILDREN)
    found += _operations(trace.journals(tx, run.id, MAX_ENTRIES), children, known, run)
    found += _told(trace.spans(tx, run.id, MAX_LINES), known)
    found += [_point(line, known) for line in trace.lines(tx, run.id, limit=MAX_LINES)]
    return found


def _outcome(status: Status) -> str:
    if status is Status.COMPLETED:
        return "ok"
    if status is Status.CANCELED:
        return "mute"
    return "bad" if status in (Status.FAILED, Status.CRASHED, Status.TIMED_OUT, Status.EXPIRED, Status.SYSTEM_FAILURE) else "run"


def _before(run: Run, attempts: Sequence[Span]) -> list[Span]:
    """Delayed, then queued, until the first attempt."""
    started = attempts[0].start if attempts else run.finished_at
    queued = run.queued_at
    found: list[Span] = []
    if (queued is None and run.due_at is not None) or (queued is not None and queued > run.created_at):
        found.append(Span("delay", "run", "Delayed", "queue", run.created_at, queued or run.finished_at, "ok" if queued else "run"))
    if queued is not None and started != queued:
        found.append(Span("queue", "run", "Queued", "queue", queued, started, "ok" if started else "run"))
    return found


def _attempts(run: Run, history: Sequence[Change]) -> list[Span]:
    found: list[Span] = []
    number, began, cause = 0, 0, ""
    for _, kind, at, data in history:
        attempt, executing = data.get("attempt", 0), data.get("execution")
        if number and (attempt > number or _is_between(kind, executing)):
            found.append(Span(f"a{number}", "run", f"Attempt {number}", "attempt", began, at, "bad", str(data.get("error") or kind)))
            number = 0
        if not number and executing == Execution.EXECUTING.value:
            number, began, cause = attempt, data.get("retry_at") or at, kind
        if number and executing == Execution.FINISHED.value:
            found.append(Span(f"a{number}", "run", f"Attempt {number}", "attempt", began, at, _outcome(run.status), cause))
            number = 0
    if number:
        end = run.finished_at  # cancelled, and its worker has not said so yet
        found.append(Span(f"a{number}", "run", f"Attempt {number}", "attempt", began, end, "run" if end is None else "mute"))
    return found


def _is_between(kind: str, execution: str | None) -> bool:
    """The attempt is over and the run goes back to its queue; a wait is part of an attempt."""
    return execution == Execution.QUEUED.value and "resumed" not in kind


def _operations(entries: Sequence[tuple[int, Entry]], children: Sequence[Child], attempts: set[str], run: Run) -> list[Span]:
    found: list[Span] = []
    home: dict[str, str] = {}  # child or batch → the span it belongs to
    for journal, entry in entries:
        parent = f"a{journal}" if f"a{journal}" in attempts else "run"
        span = _operation(f"j{journal}:{entry.key}", parent, entry, run)
        found.append(span)
        if entry.ref:
            home[entry.ref] = span.id
    for child in children:
        parent = home.get(child.id) or home.get(child.batch_id or "") or "run"
        status, ended = _outcome(Status(child.status)), child.finished_at
        found.append(Span(f"r{child.id}", parent, child.task, "task", child.created_at, ended, status, child.status, f"/runs/{child.id}"))
    return found


def _operation(id_: str, parent: str, entry: Entry, run: Run) -> Span:
    kind = KINDS.get(entry.kind, "trigger")
    ended = entry.ended_at
    start = entry.began_at or ended or run.started_at or run.created_at
    if entry.status == "pending":
        return Span(id_, parent, _name(entry), kind, start, run.finished_at, "run" if run.finished_at is None else "mute")
    status = {"ok": "ok", "error": "bad"}.get(entry.status, "mute")
    return Span(id_, parent, _name(entry), kind, start, ended or start, status)


def _name(entry: Entry) -> str:
    match entry.kind:
        case "step" | "mark":
            return entry.label
        case "token":
            return "wait for a token"
        case "wait":
            return f"wait {entry.label}"
        case _:
            return f"{entry.kind.replace('_', ' ')} {entry.label}" if entry.label != "batch" else entry.kind.replace("_", " ")


def _told(lines: Sequence[Line], attempts: set[str]) -> list[Span]:
    """Spans of OpenTelemetry and of `logger.trace`, below each other as they were. Their times are the worker's."""
    found: list[tuple[Line, dict[str, Any]]] = [(line, msgspec.json.decode(line.data or "{}")) for line in lines]
    home = {str(data.get("span.id")): f"l{line.seq}" for line, data in found}
    spans = list[Span]()
    for line, data in found:
        above = home.get(str(data.get("span.parent"))) or (f"a{line.attempt}" if f"a{line.attempt}" in attempts else "run")
        start, end = (data.get(name) if isinstance(data.get(name), int) else line.at for name in ("span.start", "span.end"))
        kind = "http" if any(name.startswith(("http.", "url.")) for name in data) else "fn"
        status = "bad" if data.get("span.status") == "bad" else "ok"
        spans.append(Span(f"l{line.seq}", above, line.message[:200], kind, int(start or line.at), int(end or line.at), status))
    return spans


def _point(line: Line, attempts: set[str]) -> Span:
    parent = f"a{line.attempt}" if f"a{line.attempt}" in attempts else "run"
    return Span(f"l{line.seq}", parent, line.message[:200], "log", line.at, line.at, "bad" if line.level == "error" else "ok", line.level)
