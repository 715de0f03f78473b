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
    return ".".join(part.replace("\\", "\\\\").replace(".", "\\.") for part in parts)


def read(json: Any, meta: Mapping[str, Any] | None) -> Any:
    """The value of a superjson packet."""
    values = (meta or {}).get("values")
    return json if values is None else _read_tree(json, values)


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
    if not path:
        return _read_tree(value, tree)
    head, rest = path[0], path[1:]
    if isinstance(value, dict) and head in value:
        return {**cast("dict[str, Any]", value), head: _replace(cast("dict[str, Any]", value)[head], rest, tree)}
    if isinstance(value, list) and head.isdecimal() and int(head) < len(cast("list[Any]", value)):
        items = list(cast("list[Any]", value))
        items[int(head)] = _replace(items[int(head)], rest, tree)
        return items
    return cast("Any", value)  # a path that leads nowhere says nothing


def _convert(value: Any, kind: Any) -> Any:
    reader = _READERS.get(kind.lower()) if isinstance(kind, str) else None
    try:
        return reader(value) if reader else value
    except (ValueError, TypeError, AttributeError):
        return value  # a packet from outside may say anything: keep what is there
