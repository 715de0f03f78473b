"""Testing a task: a form made from its payload's schema, or JSON; every option of a trigger; recent payloads to start from."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from starlette.responses import Response

from outlast.engine import triggers
from outlast.model import payload as packets
from outlast.model.manifest import TaskDefinition
from outlast.server import options as trigger_options
from outlast.server.dashboard import run as run_page
from outlast.server.dashboard import schema, tasks
from outlast.server.dashboard.look import pretty_text
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import catalog, search
from outlast.store.database import Connection

RECENT = 8
# the trigger's options that are typed as text, by their wire names
TEXTS = ("delay", "ttl", "queue", "concurrencyKey", "idempotencyKey", "idempotencyKeyTTL", "lockToVersion", "machine")
NUMBERS = ("maxAttempts", "maxDuration", "priority")


async def choose(visit: Visit) -> Response:
    """GET /test"""
    version = visit.env.current_version
    found = await visit.read(lambda tx: catalog.task_definitions(tx, visit.env.id, version)) if version else {}
    return visit.page("test/choose.html", topics="deployments", tasks=sorted(found.values(), key=lambda t: t.id))


async def show(visit: Visit) -> Response:
    """GET /test/{task}?mode=json&from=RUN"""
    task = await tasks.definition(visit)
    fields = schema.fields(task.payload_schema)
    origin = visit.query.get("from", "")
    recent, start = await visit.read(lambda tx: _recent(tx, visit, task, origin))
    mode = "json" if start is not None or not fields or visit.query.get("mode") == "json" else "form"
    return visit.page(
        "test/task.html",
        topics="tasks,deployments",
        task=task,
        fields=fields,
        mode=mode,
        recent=recent,
        payload=start if start is not None else schema.example(task.payload_schema),
        shape=msgspec.json.encode(task.payload_schema).decode() if task.payload_schema else None,
        texts=TEXTS,
        numbers=NUMBERS,
    )


def _recent(tx: Connection, visit: Visit, task: TaskDefinition, origin: str) -> tuple[list[tuple[str, int, str]], str | None]:
    """(run, when, payload in short) of the last ones, and the payload of the one that was chosen."""
    found = search.page(tx, search.Filter(env_id=visit.env.id, tasks=[task.id]), RECENT)
    texts = {run.id: _plain(data.payload, data.payload_type) for run, data in found}
    chosen = search.one(tx, visit.env.id, origin) if origin.startswith("run_") and "\x00" not in origin else None
    start = None if chosen is None else pretty_text(_plain(chosen[1].payload, chosen[1].payload_type))
    return [(run.id, run.created_at, texts[run.id][:120]) for run, _ in found if texts[run.id]], start


def _plain(text: str | None, kind: str) -> str:
    if text is None or kind == packets.JSON:
        return text or ""
    return msgspec.json.encode(packets.to_json(text, kind)).decode()


async def trigger(visit: Visit) -> Response:
    """POST /test/{task}"""
    task = await tasks.definition(visit)
    text = _payload(visit, task)
    options = trigger_options.read_options(msgspec.Raw(msgspec.json.encode(_options(visit))))
    options.test = True
    made = run_page.payload_of(visit, task.id, text, options)
    if found := schema.wrong(task.payload_schema, json.loads(text)):
        raise Problem(400, found, param="payload")
    run = await visit.call(triggers.trigger, made)
    return visit.done("Triggered", href=f"/runs/{run.run_id}")


def _payload(visit: Visit, task: TaskDefinition) -> str:
    if visit.body.get("mode") != "form" or task.payload_schema is None:
        return visit.text("payload", run_page.MAX_TEXT) or "null"
    try:
        return schema.assemble(task.payload_schema, visit.body)
    except ValueError as error:
        field, what = error.args
        raise Problem(400, f"{field[2:]} {what}", param=field) from error


def _options(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in TEXTS:
        if value := visit.text(name, 2_048):
            found[name] = {"name": value} if name == "queue" else value
    for name in NUMBERS:
        if value := visit.text(name, 20):
            try:
                found[name] = int(value) if name == "maxAttempts" else float(value)
            except ValueError as error:
                raise Problem(400, f"{name} must be a number", param=name) from error
    if tags := visit.text("tags", 2_000):
        found["tags"] = [tag for part in tags.split(",") if (tag := part.strip())]
    if metadata := visit.text("metadata", 256_000):
        try:
            found["metadata"] = json.loads(metadata)
        except ValueError as error:
            raise Problem(400, f"metadata is not JSON: {error}", param="metadata") from error
    return found
