"""The current run: values that would differ each time, recorded so that a replay sees the same; and how it may end early."""

from __future__ import annotations

import random as _random
import uuid as _uuid
from datetime import UTC, datetime
from typing import Any, Never

import msgspec

from outlast import current, durable, values
from outlast.errors import ContinueAs, RunCancelled
from outlast.model import payload as packets
from outlast.pending import Pending


def now() -> datetime:
    """The time, recorded: decide from this, not from `datetime.now()`.

    Raises:
        OutsideRunError: outside of a task.
    """
    return _recorded("run.now()", "now", datetime.now(UTC))


def random() -> float:
    """A number from 0 to 1, recorded.

    Raises:
        OutsideRunError: outside of a task.
    """
    return _recorded("run.random()", "random", _random.random())


def uuid4() -> _uuid.UUID:
    """A random UUID, recorded.

    Raises:
        OutsideRunError: outside of a task.
    """
    return _uuid.UUID(_recorded("run.uuid4()", "uuid4", str(_uuid.uuid4())))


def checkpoint() -> None:
    """A place where a run that was cancelled, or is past its max_duration, may stop: for long code without a wait.

    Raises:
        RunCancelled: in a `def` task that must stop.
        asyncio.CancelledError: in an `async def` task that must stop.
        OutsideRunError: outside of a task.
    """
    attempt = current.required("run.checkpoint()")
    if not attempt.is_cancelled:
        return
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RunCancelled("the run must stop: it was cancelled, or is past its max_duration") from None
    raise asyncio.CancelledError("the run must stop")


def continue_as(payload: Any = None) -> Pending[Never]:
    """End this run here, and go on as a fresh one of the same task with another payload, and a journal that is empty.

    Whoever waits for this run waits for the new one; its idempotency key, tags, metadata and version go along. This run is
    COMPLETED with `{"continued_as": id}`. Nothing is executed after this but `finally` blocks.

    Raises:
        ValidationError: the payload does not fit (pydantic's own error); the run goes on.
        OutsideRunError: outside of a task.
    """
    call = "run.continue_as(…)"
    here = durable.required(call)
    from outlast.options import body
    from outlast.tasks import registry

    task = registry.tasks[current.required(call).ctx.task.id]
    wire = body(task.encode_payload(payload), {})
    slot = here.slot("continue", task.id, None, durable.fingerprint(wire), call)
    args = {"task": task.id, "body": msgspec.json.encode(wire).decode()}

    async def go() -> Never:
        entry = await here.perform(slot, args)
        raise ContinueAs(entry.ref or "")

    return Pending(call, go, lambda: here.block(go))


def _recorded(call: str, label: str, value: Any) -> Any:
    here = durable.required(call)
    slot = here.slot("mark", label, None, "", call)
    data, data_type = values.encode(value)
    entry = here.take(slot, lambda: {"value": data, "value_type": data_type})
    return packets.decode(entry.value, entry.value_type or packets.JSON)
