"""One run: its trace, what went in and came out, and what may be done to it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from starlette.responses import Response

from outlast.engine import control, triggers
from outlast.model import payload as packets
from outlast.model.failure import Failure
from outlast.model.refusal import Refusal
from outlast.model.requests import Cancel, Replay, Reschedule
from outlast.model.run import Execution, Run, RunData, Status
from outlast.server import body as bodies
from outlast.server import options as trigger_options
from outlast.server import trace as traces
from outlast.server.dashboard import markdown
from outlast.server.dashboard.look import plain, pretty_text
from outlast.server.dashboard.rendering import HEADERS
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import events, idempotency, search, streams, trace
from outlast.store.database import Connection

TABS = (("overview", "o"), ("details", "d"), ("context", "x"), ("metadata", "m"), ("logs", "l"), ("journal", "u"), ("streams", "s"))
MAX_LINES = 500
MAX_RECORDS = 100  # of a stream
LEVELS = ("debug", "info", "warn", "error")
PARTS = ("payload", "output", "metadata", "error")
_failure = msgspec.json.Decoder(Failure).decode


async def found(visit: Visit) -> tuple[Run, RunData]:
    """The run of the address.

    Raises:
        Problem: 404, also for another environment's.
    """
    run_id = visit.request.path_params["run"]
    pair = await visit.read(lambda tx: search.one(tx, visit.env.id, run_id)) if run_id.isascii() and len(run_id) < 100 else None
    if pair is None:
        raise Problem(404, "no such run")
    return pair


async def show(visit: Visit) -> Response:
    """GET /runs/{run}"""
    run, data = await found(visit)
    tab = visit.query.get("tab", "overview")
    tab = tab if tab in dict(TABS) or tab == "markdown" else "overview"
    more = await visit.read(lambda tx: _more(tx, visit, run, data, tab))
    return visit.page(
        "runs/run.html",
        topics=f"run:{run.id}",
        run=run,
        data=data,
        options=data.options,
        tab=tab,
        tabs=TABS,
        failure=_failure(data.error) if data.error else None,
        payload=_shown(data.payload, data.payload_type),
        output=_shown(data.output, data.output_type or packets.JSON),
        context=json.dumps(_context(visit, run, data)),
        levels=LEVELS,
        **more,
    )


def _shown(text: str | None, kind: str) -> str | None:
    """A packet as people read it: plain JSON; dates and sets by their text."""
    if text is None or kind != packets.SUPERJSON:
        return text
    return msgspec.json.encode(packets.to_json(text, kind)).decode()


def _more(tx: Connection, visit: Visit, run: Run, data: RunData, tab: str) -> dict[str, Any]:
    query = visit.query
    pending = [entry for _, entry in trace.journals(tx, run.id, 2_000) if entry.status == "pending"] if not run.is_final else []
    levels = [level for level in query.getlist("level") if level in LEVELS]
    return {
        "waits": pending[:20],
        "span": _span(tx, run, query.get("span", "")),
        "newer": _neighbour(tx, run, "before"),
        "older": _neighbour(tx, run, "after"),
        "lines": trace.lines(tx, run.id, limit=MAX_LINES, levels=levels, text=query.get("find")) if tab == "logs" else [],
        "entries": trace.journals(tx, run.id, 2_000) if tab == "journal" else [],
        "streams": _streams(tx, run) if tab == "streams" else [],
        "parked": _parked(tx, run),
        "key_is_taken": data.options.idempotency_key is not None and idempotency.holds(tx, run.env_id, run.task, run.id),
        "asked_levels": levels,
        "report": _report(tx, visit, run, data) if tab == "markdown" else "",
    }


def _report(tx: Connection, visit: Visit, run: Run, data: RunData) -> str:
    payload, output = _shown(data.payload, data.payload_type), _shown(data.output, data.output_type or packets.JSON)
    return markdown.report(run, data, traces.spans(tx, run), env=visit.env.slug, payload=payload, output=output)


def _streams(tx: Connection, run: Run) -> list[tuple[str, int, list[streams.Record]]]:
    """(key, how many records, the last ones)"""
    found = [streams.find(tx, (run.id, key)) for key in streams.keys(tx, run.id)]
    return [(s.key, s.next_seq, streams.read(tx, (run.id, s.key), max(0, s.next_seq - MAX_RECORDS))[-MAX_RECORDS:]) for s in found if s]


def _parked(tx: Connection, run: Run) -> Failure | None:
    """Why the code of its version could not go on with it."""
    if run.status is not Status.WAITING or run.execution is not Execution.PENDING_VERSION:
        return None
    for _, kind, _, data in reversed(events.history(tx, run.id)):
        if kind == "parked":
            return _failure(data["failure"]) if data.get("failure") else Failure(name=str(data.get("error") or ""))
    return None


def _neighbour(tx: Connection, run: Run, side: str) -> str | None:
    before, after = (run.id, None) if side == "before" else (None, run.id)
    near = search.rows(tx, search.Filter(env_id=run.env_id, tasks=[run.task], before=before, after=after), 1)
    return near[0][0].id if near else None


def _span(tx: Connection, run: Run, id_: str) -> dict[str, Any] | None:
    """What is known of one span, by what its id begins with."""
    kind, rest = id_[:1], id_[1:]
    if kind == "j" and len(rest) < 5_000 and "\x00" not in rest:
        entry = trace.entry(tx, f"{run.id}:{rest}")
        if entry is None:
            return None
        facts = {
            "Operation": entry.kind, "Status": entry.status, "Began": entry.began_at, "Ended": entry.ended_at, "Key": entry.key,
            "Order": entry.seq, "Made": entry.ref, "Fingerprint": entry.fingerprint, "Code": entry.location,
        }  # fmt: skip
        return {
            "title": entry.label,
            "facts": facts,
            "value": entry.value,
            "made": entry.ref if (entry.ref or "").startswith("run_") else "",
        }
    if kind == "l" and rest.isdecimal() and len(rest) < 18:
        line = trace.line(tx, run.id, int(rest))
        return None if line is None else _line(line)
    if kind == "a" and rest.isdecimal():
        return _attempt(tx, run, int(rest))
    return None


def _line(line: trace.Line) -> dict[str, Any]:
    facts = {"Level": line.level, "At": line.at, "From": line.source, "Attempt": line.attempt}
    return {"title": "Line", "facts": facts, "text": line.message, "value": line.data, "made": ""}


def _attempt(tx: Connection, run: Run, number: int) -> dict[str, Any]:
    changes = [(kind, at, data) for _, kind, at, data in events.history(tx, run.id) if data.get("attempt") == number]
    facts: dict[str, Any] = {"Attempt": number}
    for kind, at, data in changes:
        facts[kind.capitalize()] = at
        if data.get("error"):
            facts["Error"] = data["error"]
    return {"title": f"Attempt {number}", "facts": facts, "value": None, "made": ""}


def _context(visit: Visit, run: Run, data: RunData) -> dict[str, Any]:
    o = data.options
    return {
        "task": {"id": run.task},
        "run": {
            "id": run.id, "tags": sorted(o.tags), "isTest": run.is_test, "isReplay": o.replay_of is not None, "version": run.version,
            "parentId": run.parent_id, "rootId": run.root_id, "priority": o.priority, "durationMs": run.usage_ms,
        },
        "attempt": {"number": run.attempt},
        "queue": {"name": run.queue, "concurrencyKey": run.concurrency_key},
        "environment": {"id": str(visit.env.id), "slug": visit.env.slug, "type": visit.env.type},
        "batch": {"id": run.batch_id} if run.batch_id else None,
    }  # fmt: skip


async def trace_json(visit: Visit) -> Response:
    """GET /runs/{run}/trace.json: spans as arrays, in the order of their fields."""
    run, _ = await found(visit)
    spans = await visit.read(lambda tx: traces.spans(tx, run))
    shown = [s._replace(name=plain(s.name)) for s in spans]
    return visit.json({"status": run.status.value, "fields": traces.Span._fields, "spans": shown}, cached=True)


async def download(visit: Visit) -> Response:
    """GET /runs/{run}/{part}.json: the whole of it, as a file."""
    run, data = await found(visit)
    part = visit.request.path_params["part"]
    if part == "logs":
        lines = await visit.read(lambda tx: trace.lines(tx, run.id, limit=100_000))
        text = "".join(msgspec.json.encode(line).decode() + "\n" for line in lines)
        return _file(f"{run.id}-logs.jsonl", text)
    text = getattr(data, part) if part in PARTS else None
    if text is None:
        raise Problem(404, "there is none")
    return _file(f"{run.id}-{part}.json", text)


async def as_markdown(visit: Visit) -> Response:
    """GET /runs/{run}.md"""
    run, data = await found(visit)
    return _file(f"{run.id}.md", await visit.read(lambda tx: _report(tx, visit, run, data)))


def _file(name: str, text: str) -> Response:
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    return Response(text.encode(errors="replace"), headers=headers, media_type="application/octet-stream")


async def cancel(visit: Visit) -> Response:
    """POST /runs/{run}/cancel"""
    run_id = visit.request.path_params["run"]
    outcome = await visit.site.engine.call(
        control.cancel, Cancel(env_id=visit.env.id, run_id=run_id, reason=f"cancelled from the {visit.by}")
    )
    if isinstance(outcome, Refusal):
        if outcome.code == "run_final":
            return visit.done("This run is already finished")
        raise Problem(404, outcome.message)
    return visit.done("Canceled")


async def replay(visit: Visit) -> Response:
    """POST /runs/{run}/replay, with another payload if one is given."""
    run, data = await found(visit)
    overrides: dict[str, Any] = {}
    text = visit.text("payload", MAX_TEXT)
    if text and text != pretty_text(_shown(data.payload, data.payload_type)):
        made = payload_of(visit, run.task, text)
        overrides = {"payload": made.payload, "payload_type": made.payload_type}
    item = Replay(env_id=visit.env.id, run_id=run.id, overrides=overrides)
    made_run = await visit.call(triggers.replay, item)
    return visit.done("Replaying", href=f"/runs/{made_run.run_id}")


MAX_TEXT = 3_500_000


def payload_of(visit: Visit, task: str, text: str, options: trigger_options.TriggerOptions | None = None) -> Any:
    """A trigger with a payload somebody typed, kept as it was typed.

    Raises:
        Problem: 400, with line and column when it is not JSON.
    """
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise Problem(400, f"line {error.lineno}, column {error.colno}: {error.msg}", param="payload") from error
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"not JSON: {error}", param="payload") from error
    bodies.guard(text.encode())
    body = trigger_options.TriggerBody(msgspec.Raw(text.encode()))
    return trigger_options.trigger(visit.env.id, task, body, options or trigger_options.TriggerOptions(), now=visit.now)


async def reschedule(visit: Visit) -> Response:
    """POST /runs/{run}/reschedule"""
    run, _ = await found(visit)
    if run.status is not Status.DELAYED:
        raise Problem(400, f"the run is {run.status.value}, not delayed any more")
    due_at = trigger_options.when(visit.text("delay", 100, required=True), visit.now)
    await visit.call(control.reschedule, Reschedule(env_id=visit.env.id, run_id=run.id, due_at=due_at))
    return visit.done("Moved")


async def free_key(visit: Visit) -> Response:
    """POST /runs/{run}/free-key: the next trigger with its idempotency key makes a new run"""
    run, data = await found(visit)
    key = data.options.idempotency_key
    released = key and await visit.site.engine.write(lambda tx: idempotency.release(tx, visit.env.id, run.task, key))
    return visit.done("The key is free" if released else "The key was free already", topics=(f"run:{run.id}",))
