"""A run as Markdown: what one pastes into an issue or gives to an assistant, short enough for both."""

from __future__ import annotations

import re

import msgspec

from outlast.model.failure import Failure
from outlast.model.run import Run, RunData
from outlast.server.dashboard.look import duration, iso, number, plain, pretty_text
from outlast.server.trace import Span

MAX_VALUE = 4_000  # characters of each value; an issue holds 65,536 in all
MAX_STACK = 8_000
MAX_SPANS = 60
MAX_LINES = 60
MAX_CELL = 300
MARKS = {"ok": "✓", "bad": "✗", "run": "…", "mute": "–"}
_failure = msgspec.json.Decoder(Failure).decode


def report(run: Run, data: RunData, spans: list[Span], *, env: str, payload: str | None, output: str | None) -> str:
    """`spans`: those of its trace, lines among them, in any order. `payload`, `output`: as JSON."""
    told = sorted(spans, key=lambda s: s.start)
    parts = [f"# {_inline(run.task)}: {run.status.value}", _facts(run, data, env)]
    if data.error:
        parts.append(_error(_failure(data.error)))
    for title, value in (("Payload", payload), ("Output", output), ("Metadata", data.metadata)):
        if value is not None:
            parts.append(f"## {title}\n\n{_block(pretty_text(value), MAX_VALUE, 'json')}")
    parts += _trace([s for s in told if s.kind not in ("log", "task")], run)
    parts += _lines([s for s in told if s.kind == "log"], run)
    return "\n\n".join(parts) + "\n"


def _facts(run: Run, data: RunData, env: str) -> str:
    o = data.options
    took = duration(run.finished_at - run.started_at) if run.finished_at and run.started_at else ""
    facts = {
        "Run": run.id, "Environment": env, "Version": run.version, "Queue": run.queue, "Concurrency key": run.concurrency_key,
        "Attempt": run.attempt or None, "Tags": ", ".join(o.tags), "Created": iso(run.created_at), "Started": iso(run.started_at),
        "Ended": iso(run.finished_at), "Took": took, "Parent": run.parent_id, "Batch": run.batch_id, "Replay of": o.replay_of,
        "Idempotency key": o.idempotency_key,
    }  # fmt: skip
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {_inline(value)} |" for name, value in facts.items() if value)


def _error(failure: Failure) -> str:
    return f"## Error\n\n{_block(failure.stack or f'{failure.name or failure.code}: {failure.message}', MAX_STACK, tail=True)}"


def _trace(spans: list[Span], run: Run) -> list[str]:
    """Attempts, waits, steps and children, by their begin; the last ones are where it ended."""
    if not spans:
        return []
    rows = [_row(s, run) for s in spans[-MAX_SPANS:]]
    return [
        "\n".join([f"## What happened{_of(len(spans), MAX_SPANS)}\n", "| After | Took | | Kind | What |", "|--:|--:|---|---|---|", *rows])
    ]


def _row(s: Span, run: Run) -> str:
    took = "goes on" if s.end is None else duration(s.end - s.start)
    return f"| +{duration(s.start - run.created_at)} | {took} | {MARKS.get(s.status, s.status)} | {s.kind} | {_inline(s.name)} |"


def _lines(points: list[Span], run: Run) -> list[str]:
    if not points:
        return []
    text = "\n".join(f"+{duration(s.start - run.created_at)} {s.note} {s.name}" for s in points[-MAX_LINES:])
    return [f"## Lines{_of(len(points), MAX_LINES)}\n\n{_block(text, MAX_STACK, tail=True)}"]


def _of(n: int, limit: int) -> str:
    return f" (the last {limit} of {number(n)})" if n > limit else ""


def _block(text: str, limit: int, kind: str = "", *, tail: bool = False) -> str:
    """As it is, between more backticks than stand in it in a row. Too much is cut, and says so; `tail`: its end is what matters."""
    cut = f"… cut: {number(len(text))} characters in all" if len(text) > limit else ""
    shown = [cut, plain(text[-limit:])] if tail else [plain(text[:limit]), cut]
    body = "\n".join(part for part in shown if part)
    fence = _fence(body, 3)
    return f"{fence}{kind}\n{body}\n{fence}"


def _inline(value: object) -> str:
    """Text of a user in a line of ours: code, so that it is neither Markdown nor HTML, and nobody is called by an @."""
    text = plain(value)[:MAX_CELL].replace("\n", " ").replace("|", "\\|")
    fence = _fence(text, 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _fence(text: str, least: int) -> str:
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
