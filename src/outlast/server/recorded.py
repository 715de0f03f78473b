"""A worker's `op` as the engine takes it, checked: it comes from a process that runs user code."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from outlast.model.journal import MAX_VALUE_BYTES, Entry
from outlast.model.limits import MAX_BATCH_ITEMS, MAX_FUTURE_MS, TASK_ID
from outlast.model.messages import Op
from outlast.model.refusal import Refusal
from outlast.model.requests import Record, Trigger
from outlast.server import body as bodies
from outlast.server import options as trigger_options
from outlast.server.problem import Problem


def record_of(op: Op, env_id: int, now: int) -> Record | Refusal:
    """What is out of its range is refused by name; the run's code gets the refusal as an error."""
    args = op.args
    entry = Entry(op.key, op.op, op.label, op.fingerprint, "ok", location=op.location, began_at=now)
    try:
        match op.op:
            case "trigger" | "trigger_and_wait":
                return _record(op, entry, child=_child(env_id, args, now))
            case "batch" | "batch_and_wait":
                items = args.get("items")
                if not isinstance(items, list) or not 1 <= len(cast("list[Any]", items)) <= MAX_BATCH_ITEMS:
                    return Refusal("invalid", f"a batch has 1 to {MAX_BATCH_ITEMS} items")
                return _record(op, entry, items=[_item(env_id, item, now) for item in cast("list[Any]", items)])
            case "wait":
                until = int(args["until"]) if "until" in args else now + int(args["ms"])
                if until > now + MAX_FUTURE_MS:
                    return Refusal("invalid", "a wait may last ten years at most")
                return _record(op, entry, until=until)
            case "token":
                return _record(op, entry, token_id=str(args["id"]))
            case "step" | "mark":
                return _done(op, entry, args, now)
    except Problem as problem:
        return Refusal("invalid", problem.message)
    except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
        return Refusal("invalid", f"a malformed operation: {error}")


def _record(op: Op, entry: Entry, **what: Any) -> Record:
    return Record(run_id=op.run_id, epoch=op.epoch, journal=op.journal, entry=entry, **what)


def _done(op: Op, entry: Entry, args: dict[str, Any], now: int) -> Record | Refusal:
    value = args.get("value")
    if value is not None and len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
        text = f"the result of {op.label!r} is larger than {MAX_VALUE_BYTES} bytes: store it elsewhere and return its address"
        return Refusal("invalid", text)
    status = "error" if args.get("status") == "error" else "ok"
    began_at = now - min(max(int(args.get("took_ms", 0)), 0), now)
    done = {"value": value, "value_type": args.get("value_type"), "began_at": began_at, "ended_at": now}
    return _record(op, msgspec.structs.replace(entry, status=status, **done))


def _child(env_id: int, args: dict[str, Any], now: int) -> Trigger:
    task = args["task"]
    if not TASK_ID.fullmatch(task):
        raise Problem(404, f"task id {task[:100]!r} is not one")
    found = bodies.decode(args["body"].encode(), trigger_options.body_decoder)
    made = trigger_options.trigger(env_id, task, found, trigger_options.read_options(found.options), now=now)
    return msgspec.structs.replace(made, locked_version=args.get("version"))


def _item(env_id: int, args: dict[str, Any], now: int) -> Trigger | tuple[str, str]:
    """One bad item never fails its neighbours."""
    try:
        return _child(env_id, args, now)
    except Problem as problem:
        return str(args.get("task"))[:128], problem.message
