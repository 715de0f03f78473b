"""The current run: values that would differ each time, recorded so that a replay sees the same."""

from __future__ import annotations

import random as _random
import uuid as _uuid
from datetime import UTC, datetime
from typing import Any

from outlast import durable, values
from outlast.model import payload as packets


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


def _recorded(call: str, label: str, value: Any) -> Any:
    here = durable.required(call)
    slot = here.slot("mark", label, None, "", call)
    data, data_type = values.encode(value)
    entry = here.take(slot, lambda: {"value": data, "value_type": data_type})
    return packets.decode(entry.value, entry.value_type or packets.JSON)
