"""superjson: plain JSON beside a map of what it could not say (dates, sets, maps), as Trigger.dev's clients write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

_READERS: dict[str, Callable[[Any], Any]] = {
    "date": lambda v: datetime.fromisoformat(v.replace("Z", "+00:00")).astimezone(UTC),
    "set": lambda v: set(v),
    "map": lambda v: dict(v),
    "bigint": int,
    "undefined": lambda v: None,
    "url": str,
    "regexp": str,
    "number": float,
    "error": dict,
    "symbol": str,
}


def split_path(path: str) -> list[str]:
    """`a.b\\.c` names b.c in a."""
    parts, current, escaped = list[str](), "", False
    for char in path:
        if escaped:
            current, escaped = current + char, False
        elif char == "\\":
            escaped = True
        elif char == ".":
            parts.append(current)
            current = ""
        else:
            current += char
    return [*parts, current]


def join_path(parts: list[str]) -> str:
    return ".".join(part.replace("\\", "\\\\").replace(".", "\\.") if "." in part or "\\" in part else part for part in parts)


def read(json: Any, meta: Mapping[str, Any] | None) -> Any:
    """The value of a superjson packet. `json` is changed: it must be freshly decoded.

    A regular expression, a URL and a symbol stay the text they travel as, an error is its name, message and stack; a Map or
    Set whose members cannot be keys in Python stays a list.
    """
    meta = meta if isinstance(meta, dict) else {}
    values = meta.get("values")
    value = json if values is None else _read_tree(json, values)
    equal = meta.get("referentialEqualities")
    return value if equal is None else _tie(value, equal)


def _tie(value: Any, equal: Any) -> Any:
    """What was one object in several places is one again: {path: [same as it, …]}, behind a list of those that are the root itself."""
    if isinstance(equal, list):
        parts = cast("list[Any]", equal)
        for path in _paths(parts[0] if parts else None):
            _put(value, path, value)
        equal = parts[1] if len(parts) > 1 else None
    if isinstance(equal, dict):
        for first, others in cast("dict[str, Any]", equal).items():
            found = _get(value, split_path(first))
            for path in _paths(others):
                _put(value, path, found)
    return value


def _paths(found: Any) -> list[list[str]]:
    return [split_path(path) for path in cast("list[Any]", found) if isinstance(path, str)] if isinstance(found, list) else []


def _get(value: Any, path: list[str]) -> Any:
    for step in path:
        slot = _slot(value, step)
        if slot is None:
            return None  # inside a Map or Set, whose members have no places in Python
        value = value[slot]
    return value


def _put(value: Any, path: list[str], found: Any) -> None:
    *heads, last = path
    holder = _get(value, heads)
    slot = _slot(holder, last)
    if slot is not None and found is not None:
        holder[slot] = found


def _read_tree(value: Any, tree: Any) -> Any:
    """A tree is [type], [type, {path: tree}] or {path: tree}."""
    if isinstance(tree, list):
        items = cast("list[Any]", tree)
        inner: Any = items[1] if len(items) > 1 else None
        value = _read_children(value, inner) if inner else value
        return _convert(value, items[0])
    return _read_children(value, tree) if isinstance(tree, dict) else value


def _read_children(value: Any, tree: Any) -> Any:
    for path, sub in cast("dict[str, Any]", tree).items():
        value = _replace(value, split_path(path), sub)
    return value


def _replace(value: Any, path: list[str], tree: Any) -> Any:
    """In place: the packet was just decoded and is nobody else's, and a copy per path would be quadratic."""
    *heads, last = path
    holder = value
    for head in heads:
        found = _slot(holder, head)
        if found is None:
            return value  # a path that leads nowhere says nothing
        holder = holder[found]
    slot = _slot(holder, last)
    if slot is not None:
        holder[slot] = _read_tree(holder[slot], tree)
    return value


def _slot(holder: Any, name: str) -> str | int | None:
    """Where a step of a path leads: a key, or an index."""
    if isinstance(holder, dict):
        return name if name in holder else None
    if isinstance(holder, list) and name.isdecimal() and len(name) < 10:
        return int(name) if int(name) < len(cast("list[Any]", holder)) else None
    return None


def _convert(value: Any, kind: Any) -> Any:
    reader = _READERS.get(kind.lower()) if isinstance(kind, str) else None
    try:
        return reader(value) if reader else value
    except (ValueError, TypeError, AttributeError):
        return value  # a packet from outside may say anything: keep what is there
