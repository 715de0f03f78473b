"""A worker's `op` as the engine takes it, checked: it comes from a process that runs user code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from outlast.engine.streams import INPUT
from outlast.model.duration import add_months
from outlast.model.failure import Failure
from outlast.model.journal import MAX_VALUE_BYTES, REFUSED, Entry
from outlast.model.limits import IDEMPOTENCY_TTL_MS, MAX_BATCH_ITEMS, MAX_FUTURE_MS, TASK_ID
from outlast.model.messages import Op
from outlast.model.requests import Record, Trigger
from outlast.model.result import encode_failure
from outlast.server import body as bodies
from outlast.server import options as trigger_options
from outlast.server.problem import Problem
from outlast.server.sides import stream_key


def record_of(op: Op, env_id: int, now: int) -> Record:
    """What is out of its range is recorded as refused; the run's code gets that as an error, also in a replay."""
    try:
        entry = Entry(op.key, op.op, op.label, op.fingerprint, "ok", location=op.location, began_at=now, place=op.place)
        if op.args.get("kept") and op.op not in ("count", "continue"):
            kept = replace(_done(op, entry, op.args, now), ref=op.args.get("ref"))
            return Record(run_id=op.run_id, epoch=op.epoch, journal=op.journal, entry=kept)
        entry = replace(entry, due_at=_due_at(op, now))
        return _record(op, entry, env_id, now)
    except Problem as problem:
        text = problem.message
    except (KeyError, TypeError, ValueError, OverflowError, msgspec.DecodeError) as error:
        text = f"a malformed operation: {error}"
    failure = encode_failure(Failure(name="Unprocessable", message=text))
    entry = Entry(op.key, op.op, op.label, op.fingerprint, "error", None, failure, REFUSED, None, op.location, now, now, op.place)
    return Record(run_id=op.run_id, epoch=op.epoch, journal=op.journal, entry=entry)


def _record(op: Op, entry: Entry, env_id: int, now: int) -> Record:
    args = op.args
    record = Record(run_id=op.run_id, epoch=op.epoch, journal=op.journal, entry=entry)
    match op.op:
        case "trigger" | "trigger_and_wait" | "continue":
            return replace(record, child=_child(env_id, args, now))
        case "batch" | "batch_and_wait":
            items = args["items"]
            if not isinstance(items, list) or not 1 <= len(cast("list[Any]", items)) <= MAX_BATCH_ITEMS:
                raise Problem(422, f"a batch has 1 to {MAX_BATCH_ITEMS} items")
            return replace(record, items=[_item(env_id, item, now) for item in cast("list[Any]", items)])
        case "wait":
            return replace(record, wait_key=_wait_key(args, env_id))
        case "token" if "input" in args:
            return replace(record, input=INPUT + stream_key(str(args["input"])))
        case "token":
            return replace(record, token_id=str(args["id"]))
        case "step" | "mark":
            return replace(record, entry=_done(op, entry, args, now))
        case "count":
            raise Problem(422, "counts are kept by the server")


def _wait_key(args: dict[str, Any], env_id: int) -> tuple[int, str, int] | None:
    key = trigger_options.idempotency_key(args.get("key"))
    ttl_ms = IDEMPOTENCY_TTL_MS if args.get("key_ttl_ms") is None else int(args["key_ttl_ms"])
    if not 0 < ttl_ms <= MAX_FUTURE_MS:
        raise Problem(422, "idempotency_key_ttl must be more than nothing, and ten years at most")
    return None if key is None else (env_id, key, ttl_ms)


def _due_at(op: Op, now: int) -> int | None:
    """When a wait, or the timeout of one, is over: by this clock, and for ever."""
    args = op.args
    if op.op != "wait":
        at = now + int(args["timeout_ms"]) if args.get("timeout_ms") is not None else None
    elif "until" in args:
        at = int(args["until"])
        if args.get("strict") and at < now:
            raise Problem(422, f"wait.until: {datetime.fromtimestamp(at / 1_000, UTC).isoformat()} is in the past")
    else:
        at = add_months(now, int(args.get("months", 0))) + int(args["ms"])
    if at is not None and at > now + MAX_FUTURE_MS:
        raise Problem(422, "a wait may last ten years at most")
    return at


def _done(op: Op, entry: Entry, args: dict[str, Any], now: int) -> Entry:
    value = args.get("value")
    if value is not None and len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
        raise Problem(413, f"the result of {op.label!r} is larger than {MAX_VALUE_BYTES} bytes: store it elsewhere and return its address")
    status = "error" if args.get("status") == "error" else "ok"
    began_at = now - min(max(int(args.get("took_ms", 0)), 0), now)
    return replace(entry, status=status, value=value, value_type=args.get("value_type"), began_at=began_at, ended_at=now)


def _child(env_id: int, args: dict[str, Any], now: int) -> Trigger:
    task = args["task"]
    if not TASK_ID.fullmatch(task):
        raise Problem(404, f"task id {task[:100]!r} is not one")
    found = bodies.decode(args["body"].encode(), trigger_options.body_decoder)
    made = trigger_options.trigger(env_id, task, found, trigger_options.read_options(found.options), now=now)
    return replace(made, locked_version=args.get("version"))


def _item(env_id: int, args: dict[str, Any], now: int) -> Trigger | tuple[str, str]:
    """One bad item never fails its neighbours."""
    try:
        return _child(env_id, args, now)
    except Problem as problem:
        return str(args.get("task"))[:128], problem.message
