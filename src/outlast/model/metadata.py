"""What may be done to the metadata of a run: operations on a JSON object, each applied or refused with a reason."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import msgspec

MAX_OPS = 1_000  # in one request or flush
MAX_INDEX = 10_000  # of a list in a path: a typing error must not make a list of a billion
MAX_PATH = 100  # steps
MAX_KEY_CHARS = 1_024
UNSAFE = frozenset({"__proto__", "constructor", "prototype"})  # what JavaScript that reads it would stumble over
_PART = re.compile(r"((?:[^.\[\]\\]|\\.)+)|\[(\d{1,12})\]")

Object = dict[str, Any]
Path = list[str | int]


class Op(msgspec.Struct, frozen=True, tag_field="type"):
    """Keys that start with `$.` are paths: `$.steps[2].done`, `$.steps.2.done`."""


class Set(Op, frozen=True, tag="set"):
    key: str
    value: Any


class Delete(Op, frozen=True, tag="delete"):
    key: str


class Append(Op, frozen=True, tag="append"):
    """To a list; what is no list becomes the first element of one."""

    key: str
    value: Any


class Remove(Op, frozen=True, tag="remove"):
    """Every element of a list that equals the value."""

    key: str
    value: Any


class Increment(Op, frozen=True, tag="increment"):
    key: str
    value: int | float


class Update(Op, frozen=True, tag="update"):
    """Replace the whole object."""

    value: Object


AnyOp = Set | Delete | Append | Remove | Increment | Update


class Unfit(ValueError):
    """Why an operation cannot be applied."""


def apply(metadata: Object, ops: Sequence[AnyOp]) -> tuple[Object, list[str]]:
    """The object after all operations, and why some were left out. The object that is given may be changed."""
    reasons: list[str] = []
    for op in ops:
        try:
            if isinstance(op, Update):
                metadata = op.value
            else:
                _apply(metadata, op)
        except Unfit as error:
            reasons.append(f"{type(op).__name__.lower()} {getattr(op, 'key', '')[:100]!r}: {error}")
    return metadata, reasons


def _apply(metadata: Object, op: Set | Delete | Append | Remove | Increment) -> None:
    path = path_of(op.key)
    match op:
        case Set():
            _set(metadata, path, op.value)
        case Delete():
            _delete(metadata, path)
        case Append():
            _append(metadata, path, op.value)
        case Remove():
            _remove(metadata, path, op.value)
        case Increment():
            _increment(metadata, path, op.value)


def path_of(key: str) -> Path:
    """The steps of a key; one, unless it is a path.

    Raises:
        Unfit: too long, malformed, or unsafe to whoever reads it.
    """
    if not key or len(key) > MAX_KEY_CHARS:
        raise Unfit(f"a key has 1 to {MAX_KEY_CHARS} characters")
    path: Path = [key] if not key.startswith("$.") else _parse(key)
    if unsafe := sorted(UNSAFE.intersection(map(str, path))):
        raise Unfit(f"{unsafe[0]} is not a safe key")
    return path


def _parse(key: str) -> Path:
    path: Path = []
    at = 1
    while at < len(key):
        at += key[at] == "." and at + 1 < len(key)
        found = _PART.match(key, at)
        if found is None:
            raise Unfit("not a path: write $.name.name or $.name[0]")
        path.append(re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else int(found[2]))
        at = found.end()
    if len(path) > MAX_PATH:
        raise Unfit(f"a path has at most {MAX_PATH} steps")
    return path


_NOTHING: Any = object()


def _step(container: Any, step: str | int) -> Any:
    """What is there; nothing is a value of its own."""
    if isinstance(container, dict):
        return cast("Object", container).get(str(step), _NOTHING)
    if isinstance(container, list):
        index = _index(step)
        items = cast("list[Any]", container)
        return items[index] if index is not None and index < len(items) else _NOTHING
    return _NOTHING


def _index(step: str | int) -> int | None:
    if isinstance(step, int):
        return step
    return int(step) if step.isascii() and step.isdecimal() and len(step) < 10 else None


def _get(metadata: Object, path: Path) -> Any:
    found: Any = metadata
    for step in path:
        found = _step(found, step)
    return found


def _set(metadata: Object, path: Path, value: Any) -> None:
    container: Any = metadata
    for step, following in pairwise(path):
        found = _step(container, step)
        if not isinstance(found, (dict, list)):
            found = cast("Object | list[Any]", [] if isinstance(following, int) else {})
            _put(container, step, found)
        container = cast("Any", found)
    _put(container, path[-1], value)


def _put(container: Object | list[Any], step: str | int, value: Any) -> None:
    if isinstance(container, dict):
        container[str(step)] = value
        return
    index = _index(step)
    if index is None:
        raise Unfit(f"{step!r} is no place in a list")
    if index > MAX_INDEX:
        raise Unfit(f"place {index} of a list is above the limit of {MAX_INDEX}")
    container.extend([None] * (index + 1 - len(container)))
    container[index] = value


def _delete(metadata: Object, path: Path) -> None:
    container = _get(metadata, path[:-1]) if len(path) > 1 else metadata
    if isinstance(container, dict):
        cast("Object", container).pop(str(path[-1]), None)
    elif isinstance(container, list):
        index = _index(path[-1])
        if index is not None and index < len(cast("list[Any]", container)):
            del container[index]


def _append(metadata: Object, path: Path, value: Any) -> None:
    found = _get(metadata, path)
    if isinstance(found, list):
        found.append(value)  # pyright: ignore[reportUnknownMemberType]
    else:
        _set(metadata, path, [value] if found is _NOTHING else [found, value])


def _remove(metadata: Object, path: Path, value: Any) -> None:
    found = _get(metadata, path)
    if not isinstance(found, list):
        raise Unfit("there is no list to remove from")
    unwanted = _same(value)
    _set(metadata, path, [item for item in cast("list[Any]", found) if _same(item) != unwanted])


def _same(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _increment(metadata: Object, path: Path, by: float) -> None:
    found = _get(metadata, path)
    if found is _NOTHING or found is None:
        found = 0
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise Unfit(f"there is a {type(found).__name__}, not a number")
    total = found + by
    if not math.isfinite(total) or abs(total) > 1e308:
        raise Unfit("the sum is too large")
    _set(metadata, path, total)
