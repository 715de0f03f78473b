"""A claimed run as the executor gets it: what `ctx` is made of, by Trigger.dev's wire names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from outlast.engine.claim import Claimed
from outlast.model import payload as packets
from outlast.model.journal import Entry
from outlast.model.messages import RunPush
from outlast.model.run import RunData


def iso(ms: int | None) -> str | None:
    """A time as the wire writes it: ISO-8601 with milliseconds and Z."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_push(c: Claimed) -> RunPush:
    run, data = c.run, c.data
    definition = c.definition
    return RunPush(
        run_id=run.id,
        epoch=run.epoch,
        attempt=run.attempt,
        task=run.task,
        version=run.version or "",
        payload=data.payload,
        payload_type=data.payload_type,
        metadata=_metadata(data),
        context=_context(c, definition.file if definition else ""),
        # losses are not counted against the limit: the worker compares with the attempt's own number
        max_attempts=run.max_attempts + run.losses if run.max_attempts is not None else None,
        max_duration=run.max_duration,
        max_duration_off=data.options.max_duration_off,
        traceparent=data.options.traceparent,
        journal=run.journal,
        entries=c.entries if run.cancel_asked is None else _unheard(c),
        used_ms=run.attempt_ms,
        used_cpu_ms=run.attempt_cpu_ms,
        earlier_ms=run.usage_ms,
        earlier_cpu_ms=run.cpu_ms,
        cancelled=run.cancel_asked is not None,
    )


def _unheard(c: Claimed) -> list[Entry]:
    """What came after its code had begun to wait came too late: it stops at that wait."""
    seen = c.run.seen_seq
    return [replace(e, status="pending", seq=None) if e.seq is not None and e.seq >= seen else e for e in c.entries]


def _metadata(data: RunData) -> str | None:
    if data.metadata is None or data.options.metadata_type == packets.JSON:
        return data.metadata
    return msgspec.json.encode(packets.to_json(data.metadata, data.options.metadata_type)).decode()


def _context(c: Claimed, file: str) -> dict[str, Any]:
    run, options, env = c.run, c.data.options, c.environment
    fields: dict[str, Any] = {
        "id": run.id,
        "tags": options.tags,
        "isTest": run.is_test,
        "isReplay": options.replay_of is not None,
        "createdAt": run.created_at,
        "startedAt": run.started_at,
        "priority": options.priority,
        "version": run.version,
        "losses": run.losses,
    }
    optional = {
        "idempotencyKey": options.idempotency_key,
        "idempotencyKeyScope": options.idempotency_key_scope,
        "maxAttempts": run.max_attempts,
        "maxDuration": run.max_duration,
        "parentTaskRunId": run.parent_id,
        "rootTaskRunId": run.root_id,
    }
    fields.update({name: value for name, value in optional.items() if value is not None})
    context: dict[str, Any] = {
        "task": {"id": run.task, "filePath": file},
        "attempt": {"number": run.attempt, "startedAt": run.updated_at},
        "run": fields,
        "queue": {"id": str(run.queue_id), "name": run.queue},
        "environment": {"id": str(env.id), "slug": env.slug, "type": env.type},
    }
    if run.batch_id is not None:
        context["batch"] = {"id": run.batch_id}
    if options.machine is not None:
        context["machine"] = {"name": options.machine}
    return context
