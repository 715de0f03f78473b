"""Runs, batches and queues as Trigger.dev's clients read them. Absent values are left out, not null."""

from __future__ import annotations

from typing import Any

import msgspec

from outlast.model import payload as packets
from outlast.model.duration import format_duration
from outlast.model.failure import Failure
from outlast.model.rate import Rate
from outlast.model.run import Run, RunData, Status, status_flags
from outlast.server.push import iso
from outlast.store.batches import Batch
from outlast.store.catalog import Queue

_failure = msgspec.json.Decoder(Failure).decode


def common(run: Run, data: RunData) -> dict[str, Any]:
    """The fields every form of a run has."""
    options = data.options
    answer: dict[str, Any] = {
        "id": run.id,
        "status": run.status.value,
        "taskIdentifier": run.task,
        **status_flags(run.status),
        "isTest": run.is_test,
        "createdAt": iso(run.created_at),
        "updatedAt": iso(run.updated_at),
        "tags": sorted(options.tags),
        "costInCents": 0,
        "baseCostInCents": 0,
        "durationMs": run.usage_ms,
        "cpuMs": run.cpu_ms,
        "depth": run.depth,
        "triggerFunction": options.trigger_function,
        "taskKind": "STANDARD",
    }
    optional = {
        "idempotencyKey": options.idempotency_key,
        "version": run.version,
        "startedAt": iso(run.started_at),
        "finishedAt": iso(run.finished_at),
        "delayedUntil": iso(run.due_at) if run.status is Status.DELAYED else None,
        "ttl": format_duration(run.ttl_ms) if run.ttl_ms else None,
        "expiredAt": iso(run.finished_at) if run.status is Status.EXPIRED else None,
        "batchId": run.batch_id,
        "region": options.region,
        "peakMemory": run.peak_memory or None,
        "metadata": _object(data.metadata, options.metadata_type),
    }
    answer.update({name: value for name, value in optional.items() if value is not None})
    return answer


def _object(data: str | None, data_type: str) -> dict[str, Any] | None:
    found = packets.to_json(data, data_type)
    return found if isinstance(found, dict) else None  # pyright: ignore[reportUnknownVariableType]


def retrieved(run: Run, data: RunData, related: dict[str, Any], attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole run."""
    answer = common(run, data)
    answer["payload"] = packets.to_json(data.payload, data.payload_type)
    if run.status is Status.COMPLETED and data.output is not None:
        answer["output"] = packets.to_json(data.output, data.output_type or packets.JSON)
    if data.error is not None and run.is_final:
        answer["error"] = error(data.error)
    answer["relatedRuns"] = related
    answer["attemptCount"] = run.attempt
    answer["attempts"] = attempts
    return answer


def error(stored: str) -> dict[str, Any]:
    failure = _failure(stored)
    match failure.type:
        case "BUILT_IN_ERROR":
            return {"name": failure.name, "message": failure.message, "stackTrace": failure.stack, **_code(failure)}
        case "INTERNAL_ERROR":
            detail = f": {failure.message}" if failure.message else ""
            return {"name": failure.code, "message": f"Task failed with an internal error ({failure.code}){detail}", **_code(failure)}
        case _:
            return {"message": failure.message}


def _code(failure: Failure) -> dict[str, str]:
    """Codes of ours are in no list of Trigger.dev's clients, which know INTERNAL_ERROR by that list: they stand beside the name."""
    return {"code": failure.code} if failure.code else {}


def error_object(stored: str) -> dict[str, Any]:
    """The error in the shape workers and subscriptions know."""
    failure = _failure(stored)
    match failure.type:
        case "BUILT_IN_ERROR":
            named = {"type": failure.type, "name": failure.name, "message": failure.message, "stackTrace": failure.stack}
            return {**named, **_code(failure)}
        case "INTERNAL_ERROR":
            return {"type": failure.type, "code": failure.code, "message": failure.message, "stackTrace": failure.stack}
        case _:
            return {"type": failure.type, "raw": failure.message, "message": failure.message}


def result(run: Run, data: RunData) -> dict[str, Any]:
    """A finished run as `/result` gives it."""
    base: dict[str, Any] = {
        "ok": run.status is Status.COMPLETED,
        "id": run.id,
        "taskIdentifier": run.task,
        "usage": {"durationMs": run.usage_ms, "cpuMs": run.cpu_ms},
    }
    if run.status is Status.COMPLETED:
        base["outputType"] = data.output_type or packets.JSON
        if data.output is not None:
            base["output"] = data.output
    else:
        base["error"] = error_object(data.error) if data.error else {"type": "STRING_ERROR", "raw": run.status.value}
    return base


def batch(b: Batch, items: list[tuple[int, str | None, str, str | None]], ended: tuple[int, int]) -> dict[str, Any]:
    """A batch with its runs in order, and its errors in both documented forms."""
    errors = [
        {"index": index, "taskIdentifier": task, "error": text, "errorCode": "BATCH_ITEM_COULD_NOT_TRIGGER"}
        for index, _, task, text in items
        if text is not None
    ]
    processing: dict[str, Any] = {"errors": errors}
    if b.completed_at is not None:
        processing["completedAt"] = iso(b.completed_at)
    answer: dict[str, Any] = {
        "id": b.id,
        "status": b.status,
        "createdAt": iso(b.created_at),
        "updatedAt": iso(b.updated_at),
        "runCount": b.expected,
        "runs": [run_id for _, run_id, _, _ in items if run_id is not None],
        "processing": processing,
        "successfulRunCount": ended[0],
        "failedRunCount": ended[1] + b.failed,
        "errors": errors,
    }
    if b.idempotency_key is not None:
        answer["idempotencyKey"] = b.idempotency_key
    return answer


def queue(q: Queue, counts: tuple[int, int]) -> dict[str, Any]:
    is_task = q.name.startswith("task/")
    return {
        "id": q.public_id,
        "name": q.name.removeprefix("task/"),
        "type": "task" if is_task else "custom",
        "running": counts[0],
        "queued": counts[1],
        "paused": q.paused,
        "concurrencyLimit": q.override if q.overridden_at is not None else q.limit,
        "concurrency": {
            "current": q.override if q.overridden_at is not None else q.limit,
            "base": q.limit,
            "override": q.override,
            "overriddenAt": iso(q.overridden_at),
            "overriddenBy": q.overridden_by,
        },
        "combinedConcurrencyLimit": q.combined,
        "rateLimit": _rate(q.rate),
        "maxSize": q.max_size,
    }


def _rate(rate: Rate | None) -> dict[str, Any] | None:
    if rate is None:
        return None
    return {"limit": rate.limit, "periodMs": rate.period_ms, "burst": rate.burst, "perKey": rate.per_key}
