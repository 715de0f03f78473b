"""A database that looks as if people had used it: for screenshots, and by the hundred thousand for measurements. Always the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from msgspec.structs import replace

from outlast.engine.engine import Engine
from outlast.model.failure import Failure
from outlast.model.journal import Entry, EntryStatus
from outlast.model.manifest import QueueDefinition, ScheduleDefinition, TaskDefinition
from outlast.model.messages import LogLine
from outlast.model.result import encode_failure
from outlast.model.run import FAILED, Event, Execution, Run, RunData, RunOptions, Status
from outlast.store import catalog, events, journal, runs
from outlast.store.database import Connection

SCHEMA = {
    "type": "object",
    "properties": {
        "to": {"type": "string", "description": "where it goes"},
        "template": {"type": "string", "enum": ["welcome", "invoice", "reminder"], "default": "welcome"},
        "attempts": {"type": "integer", "minimum": 1, "default": 3},
        "urgent": {"type": "boolean", "default": False},
        "variables": {"type": "object"},
    },
    "required": ["to", "template"],
}
TASKS = [
    TaskDefinition(id="emails.send", file="emails.py", line=12, description="Send one email.", payload_schema=SCHEMA),
    TaskDefinition(id="invoices.render", file="invoices.py", line=31, kind="thread", max_duration=120.0),
    TaskDefinition(
        id="reports.nightly",
        file="reports.py",
        line=8,
        schedule=ScheduleDefinition(cron="15 3 * * *", timezone="Europe/Berlin"),
        scheduled=True,
    ),
    TaskDefinition(id="contacts.sync", file="contacts.py", line=20, queue=QueueDefinition(name="crm", concurrency_limit=5)),
    TaskDefinition(id="videos.transcode", file="videos.py", line=44, kind="thread", machine="large-1x"),
    TaskDefinition(id="agents.research", file="agents.py", line=17, description="Answer a question with sources."),
]
ENDS = [Status.COMPLETED] * 93 + [Status.FAILED] * 4 + [Status.CANCELED, Status.TIMED_OUT, Status.CRASHED]


def _failure(name: str, message: str, file: str, code: str) -> Failure:
    return Failure(
        name=name, message=message, stack=f'Traceback (most recent call last):\n  File "{file}", in run\n    {code}\n{name}: {message}'
    )


FAILURES = [
    _failure("ConnectionError", "SMTP 421: too many connections from 10.0.3.17", "emails.py", "smtp.send(message)"),
    _failure("TimeoutError", "no answer from crm.example.com in 30 s", "contacts.py", "return await http.get(url, timeout=30)"),
    _failure(
        "ValidationError", "invoice 20731 has no customer", "invoices.py", 'raise ValidationError(f"invoice {number} has no customer")'
    ),
]


def deploy(tx: Connection, engine: Engine, version: str, *, now: int, env_id: int = 1) -> None:
    """The tasks as a version, and their queues."""
    catalog.add_version(tx, env_id=env_id, version=version, digest="showcase", python="3.11", tasks=TASKS, now=now)
    catalog.promote(tx, env_id, version)
    for task in TASKS:
        queue = task.queue or QueueDefinition(name=task.queue_name)
        catalog.upsert_queue(tx, public_id=engine.new_id("queue", now), env_id=env_id, definition=queue, now=now)


def made(engine: Engine, version: str, n: int, *, now: int, span_ms: int, env_id: int = 1, seed: int = 7) -> Iterator[tuple[Run, RunData]]:
    """`n` runs that ended, spread over the last `span_ms`, oldest first."""
    chance = random.Random(seed)
    for i in range(n):
        at = now - span_ms + span_ms * i // n
        yield one(engine, version, at=at, status=chance.choice(ENDS), chance=chance, env_id=env_id)


def one(
    engine: Engine, version: str, *, at: int, status: Status, chance: random.Random, env_id: int = 1, task: str = ""
) -> tuple[Run, RunData]:
    task = task or chance.choice([t.id for t in TASKS])
    run_id = engine.new_id("run", at)
    waited, took = chance.randrange(4, 2_500), int(chance.expovariate(1 / 4_000)) + 20
    final = status not in (Status.QUEUED, Status.EXECUTING, Status.WAITING, Status.DELAYED)
    started = None if status in (Status.QUEUED, Status.DELAYED) else at + waited
    run = Run(
        id=run_id, env_id=env_id, task=task, queue="crm" if task == "contacts.sync" else f"task/{task}", status=status,
        execution=Execution.FINISHED if final else Execution.QUEUED, attempt=chance.choice([1] * 12 + [2, 3]) if started else 0,
        snapshot=3, version=version, created_at=at, queued_at=at, started_at=started, finished_at=at + waited + took if final else None,
        updated_at=at, usage_ms=took, is_test=chance.random() < 0.02, route="showcase",
    )  # fmt: skip
    tags = [f"user:{1_000 + chance.randrange(97)}"] + (["backfill"] if chance.random() < 0.1 else [])
    payload = json.dumps({"to": f"user{chance.randrange(10_000)}@example.com", "template": "welcome", "attempts": 3, "urgent": False})
    error = encode_failure(FAILURES[len(task) % len(FAILURES)]) if status in FAILED else None
    output = json.dumps({"sent": True, "ms": took}) if status is Status.COMPLETED else None
    return run, RunData(
        run_id=run_id, payload=payload, options=RunOptions(tags=tags), output=output, output_type="application/json", error=error
    )


def insert(tx: Connection, found: Iterator[tuple[Run, RunData]]) -> None:
    while part := list(islice(found, 2_000)):
        runs.insert(tx, [run for run, _ in part])
        runs.insert_data(tx, [data for _, data in part])
        runs.add_tags(tx, sorted({(run.env_id, tag, run.id) for run, data in part for tag in data.options.tags}))
        runs.add_failures(tx, sorted((run.env_id, run.id) for run, _ in part if run.status in FAILED))
        events.append(tx, [event for run, _ in part for event in _history(run)])


def multiply(tx: Connection, times: int) -> None:
    """Every run so many times, beside itself: a million of them in the time it takes to write them."""
    numbers = (
        f"SELECT n FROM generate_series(2, {times}) n"
        if tx.is_postgres
        else f"WITH RECURSIVE c(n) AS (VALUES (2) UNION ALL SELECT n + 1 FROM c WHERE n < {times}) SELECT n FROM c"
    )
    data = ["run_id", "payload", "payload_type", "options", "metadata", "output", "output_type", "error"]
    tables = {"runs": list(runs.COLUMNS), "run_data": data, "run_tags": ["env_id", "tag", "run_id"], "failures": ["env_id", "run_id"]}
    for table, columns in tables.items():
        new = [f"r.{name} || 'z' || CAST(c.n AS TEXT)" if name in ("id", "run_id") else f"r.{name}" for name in columns]
        tx.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(new)} FROM {table} r CROSS JOIN ({numbers}) c")


def _history(run: Run) -> list[Event]:
    def event(n: int, kind: str, at: int, **data: Any) -> Event:
        return Event(run_id=run.id, env_id=run.env_id, n=n, kind=kind, at=at, data={"attempt": run.attempt, **data})

    found = [event(1, "triggered", run.created_at, status="QUEUED", execution="QUEUED", attempt=0)]
    if run.started_at is not None:
        found.append(event(2, "started", run.started_at, status="EXECUTING", execution="EXECUTING"))
    if run.finished_at is not None:
        found.append(event(3, run.status.value.lower(), run.finished_at, status=run.status.value, execution="FINISHED"))
    return found


def written(run: Run, entry: Entry) -> journal.Written:
    return (run.id, run.journal, 1, run.version or "", entry)


def step(name: str, order: int, began_at: int, ended_at: int, *, status: EntryStatus = "ok", value: str = '{"pages": 12}') -> Entry:
    return Entry(
        key=f"r/step:{name}#{order}", kind="step", label=name, fingerprint="f", status=status, seq=order, value=value,
        value_type="application/json", location="agents.py:31", began_at=began_at, ended_at=ended_at,
    )  # fmt: skip


PARTS = (
    ("plan the search", 700),
    ("search the web", 1_900),
    ("read 12 pages", 2_400),
    ("write a draft", 1_500),
    ("send it for review", 600),
)
LINES: tuple[tuple[int, Any, str, dict[str, Any] | None], ...] = (
    (0, "info", "the question has three parts", {"parts": 3}),
    (1, "debug", "GET https://search.example.com", None),
    (2, "warn", "2 pages could not be read", {"status": 403}),
    (4, "error", "SMTP 421: too many connections", None),
)


def research(tx: Connection, engine: Engine, version: str, now: int) -> str:
    """A run with everything a trace can show; its id."""
    run, data = one(engine, version, at=now - 9_400, status=Status.FAILED, chance=random.Random(3), task="agents.research")
    run = replace(run, started_at=now - 8_900, finished_at=now - 1_200, attempt=1)
    insert(tx, iter([(run, data)]))
    at, entries = now - 8_900, list[Entry]()
    for i, (name, took) in enumerate(PARTS):
        entries.append(step(name, i, at, at + took, status="error" if i == len(PARTS) - 1 else "ok"))
        at += took + 60
    journal.insert(tx, [written(run, entry) for entry in entries])
    events.append_logs(tx, [LogLine(run.id, 1, entries[i].began_at or 0, level, "logger", text, more) for i, level, text, more in LINES])
    return run.id


def approval(tx: Connection, engine: Engine, version: str, now: int, token: str) -> str:
    """A run that waits for somebody, and holds no slot; its id."""
    began = now - 5 * 3_600_000
    run, data = one(engine, version, at=began, status=Status.WAITING, chance=random.Random(4), task="agents.research")
    run = replace(run, started_at=began + 40, execution=Execution.SUSPENDED, usage_ms=740)
    insert(tx, iter([(run, data)]))
    asked = Entry(key="r/token:refund#1", kind="token", label="refund", fingerprint="f", status="pending", ref=token, began_at=began + 700)
    journal.insert(tx, [written(run, step("look the order up", 0, began + 60, began + 690)), written(run, asked)])
    return run.id
