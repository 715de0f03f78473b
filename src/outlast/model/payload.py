"""Values on their way: a packet is text and its type. JSON where it is enough, superjson for dates and sets; never pickle."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

import msgspec

from outlast.model import superjson
from outlast.model.limits import MAX_JSON_DEPTH

JSON = "application/json"
SUPERJSON = "application/super+json"


class NotSerializable(ValueError):
    """A value that cannot travel; the message names where in it, and what it is."""


def encode(value: Any) -> tuple[str | None, str]:
    """The packet of a value.

    Raises:
        NotSerializable: bytes, NaN, lone surrogates, open files and the like; the path to it is named.
    """
    if value is None:
        return None, JSON
    special: dict[str, Any] = {}
    plain = _plain(value, [], special)
    if special:
        values = special.get("", special)
        return _dump({"json": plain, "meta": {"values": values}}), SUPERJSON
    return _dump(plain), JSON


def decode(data: str | None, data_type: str) -> Any:
    """The value of a packet.

    Raises:
        ValueError: text that is not of its type, or a type nobody knows.
    """
    if data is None:
        return None
    kind = data_type.partition(";")[0].strip()
    if kind == JSON:
        return _load(data)
    if kind == SUPERJSON:
        whole = _load(data)
        if not isinstance(whole, dict):
            raise ValueError("a super+json packet is an object with json and meta")
        packet = cast("dict[str, Any]", whole)
        return superjson.read(packet.get("json"), packet.get("meta"))
    if kind == "text/plain":
        return data
    raise ValueError(f"unknown_codec: values of type {data_type!r} cannot be read")


def to_json(data: str | None, data_type: str) -> Any:
    """The plain JSON of a packet, as REST answers show it: superjson reduced to its `json`."""
    if data is None:
        return None
    if data_type == SUPERJSON:
        whole = _load(data)
        return cast("dict[str, Any]", whole).get("json") if isinstance(whole, dict) else whole
    return data if data_type == "text/plain" else _load(data)


def _load(data: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        # integers of more than 64 bits: the slower parser keeps them whole
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError(f"not JSON: {error}") from error


def _dump(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotSerializable("the value holds a lone surrogate, which is no Unicode text") from error
    return text


def _plain(value: Any, path: list[str], special: dict[str, Any]) -> Any:
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType] - of Any, as is all JSON
    if value is None or kind is str or kind is bool or kind is int:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise NotSerializable(f"{_where(path)} is {value}, which JSON cannot say")
        return value
    if len(path) > MAX_JSON_DEPTH:
        raise NotSerializable(f"{_where(path[:3])} … is nested deeper than {MAX_JSON_DEPTH}, or contains itself")
    if kind is dict:
        return {_key(k, path): _plain(v, [*path, str(k)], special) for k, v in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item, [*path, str(i)], special) for i, item in enumerate(value)]
    return _other(value, path, special)


def _other(value: Any, path: list[str], special: dict[str, Any]) -> Any:
    match value:
        case datetime():
            special[superjson.join_path(path)] = ["Date"]
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case set() | frozenset():
            inner: dict[str, Any] = {}
            items = [_plain(item, [str(i)], inner) for i, item in enumerate(cast("set[Any]", value))]
            special[superjson.join_path(path)] = ["set", inner] if inner else ["set"]
            return items
        case Enum():
            return _plain(value.value, path, special)
        case date() | time():
            return value.isoformat()
        case UUID() | PurePath() | Decimal():
            return str(value)
        case str() | int() | float():
            return _plain(_base(value), path, special)
        case msgspec.Struct():
            return _plain(msgspec.structs.asdict(value), path, special)
        case Mapping():
            return _plain(dict(cast("Mapping[Any, Any]", value)), path, special)
        case list() | tuple():
            return _plain(list(cast("list[Any]", value)), path, special)
        case _ if hasattr(value, "model_dump"):  # a pydantic model, without importing pydantic
            return _plain(value.model_dump(mode="json"), path, special)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, path, special)
        case _:
            raise NotSerializable(f"{_where(path)} is a {type(value).__qualname__}, which cannot travel: return plain data instead")


def _base(value: Any) -> Any:
    """The plain value of a subclass of str, int or float."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _key(key: Any, path: list[str]) -> str:
    if isinstance(key, str):
        return str(key)
    if isinstance(key, (int, float, bool)) or key is None:
        return json.dumps(key)
    raise NotSerializable(f"{_where(path)} has the key {key!r}: keys must be text")


def _where(path: list[str]) -> str:
    return f"the value at {'.'.join(path)}" if path else "the value"
