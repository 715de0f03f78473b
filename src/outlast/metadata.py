"""`metadata`: what a run shows of itself while it runs. Written here, folded on the server, pushed to whoever watches the run."""

from __future__ import annotations

from typing import Any, Self, cast

import msgspec

from outlast import current as _current
from outlast import values
from outlast.errors import InvalidValue
from outlast.model import payload as packets
from outlast.model.limits import MAX_METADATA_BYTES
from outlast.model.metadata import AnyOp, Append, Delete, Increment, Remove, Set, Unfit, Update, path_of
from outlast.pending import Pending


class Metadata:
    """The metadata of this run, its parent or its root. Calls can be chained; outside a run they do nothing.

    Keys that start with `$.` are paths: `$.steps[2].done`.

    Example:
        >>> metadata.set("progress", 0.5).increment("rows", 10)  # doctest: +SKIP
    """

    def __init__(self, whose: str) -> None:
        self._whose = whose

    def set(self, key: str, value: Any) -> Self:
        """Make it this value.

        Raises:
            InvalidValue: a value that is no JSON, or larger than 256 KB; a key that is no path.
        """
        return self._change(Set(_key(key), _plain(value)))

    def delete(self, key: str) -> Self:
        """Take it away, if it is there."""
        return self._change(Delete(_key(key)))

    def append(self, key: str, value: Any) -> Self:
        """Add an element to a list; what is no list becomes one."""
        return self._change(Append(_key(key), _plain(value)))

    def remove(self, key: str, value: Any) -> Self:
        """Take every equal element out of a list."""
        return self._change(Remove(_key(key), _plain(value)))

    def increment(self, key: str, value: float = 1) -> Self:
        """Add to a number, safely from many runs at once."""
        return self._change(Increment(_key(key), _number(value)))

    def decrement(self, key: str, value: float = 1) -> Self:
        """Take from a number."""
        return self._change(Increment(_key(key), -_number(value)))

    def replace(self, value: dict[str, Any]) -> Self:
        """Make this the whole object."""
        plain = _plain(value)
        if not isinstance(plain, dict):
            raise InvalidValue(f"metadata is an object at its top, not a {type(value).__name__}")
        return self._change(Update(cast("dict[str, Any]", plain)))

    def _change(self, op: AnyOp) -> Self:
        attempt = _current.attempt.get()
        if attempt is not None and attempt.beside is not None:
            attempt.beside.change(self._whose, op)
        return self


def current() -> dict[str, Any] | None:
    """The run's own metadata as it was when it started, with what it wrote since; None outside a run."""
    attempt = _current.attempt.get()
    if attempt is None or attempt.beside is None:
        return None
    return msgspec.json.decode(msgspec.json.encode(attempt.beside.metadata))


def get(key: str, default: Any = None) -> Any:
    """One value of it."""
    return (current() or {}).get(key, default)


def flush() -> Pending[None]:
    """Until everything written is durable. It happens by itself a moment after each write, and before the run waits or ends.

    Raises:
        Unprocessable: the server refused something, such as metadata over 256 KB.
    """
    attempt = _current.attempt.get()
    beside = attempt.beside if attempt is not None else None

    async def go() -> None:
        if beside is not None:
            await beside.flushed()

    return Pending("metadata.flush()", go, lambda: beside.block(beside.flushed()) if beside is not None else None)


_own = Metadata("self")
set = _own.set
delete = _own.delete
append = _own.append
remove = _own.remove
increment = _own.increment
decrement = _own.decrement
replace = _own.replace
parent = Metadata("parent")
root = Metadata("root")


def _key(key: str) -> str:
    try:
        path_of(key)
    except Unfit as error:
        raise InvalidValue(f"metadata key {key[:100]!r}: {error}") from error
    return key


def _number(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidValue(f"{value!r} is not a number")
    return value


def _plain(value: Any) -> Any:
    """As JSON has it: dates become texts, sets lists."""
    data, data_type = values.encode(value)
    if data is not None and len(data) > MAX_METADATA_BYTES:
        raise InvalidValue(f"metadata may have {MAX_METADATA_BYTES} bytes, and this value alone has {len(data)}: store it elsewhere")
    return packets.to_json(data, data_type)
