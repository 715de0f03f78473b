"""Values on their way: a packet is text and its type. JSON where it is enough, superjson for dates and sets; never pickle."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
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
_Special = dict[str | None, Any]  # superjson's tree by path; None is the value itself


class NotSerializable(ValueError):
    """A value that cannot travel; the message names where in it, and what it is."""


def encode(value: Any) -> tuple[str | None, str]:
    """The packet of a value.

    Raises:
        NotSerializable: bytes, NaN, lone surrogates, open files and the like; the path to it is named.
    """
    if value is None:
        return None, JSON
    special: _Special = {}
    plain = _plain(value, [], special)
    if special:
        return _dump({"json": plain, "meta": {"values": special.get(None, special)}}), SUPERJSON
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
    except RecursionError as error:
        raise ValueError("not JSON that can be read: it is nested too deep") from error
    except msgspec.DecodeError as error:
        # integers of very many digits: the slower parser keeps them whole, and is told to be as strict as the fast one
        try:
            found = json.loads(data, parse_constant=_refused, parse_float=_finite)
            json.dumps(found, ensure_ascii=False).encode()
        except (ValueError, RecursionError):  # UnicodeEncodeError, of a lone surrogate, is a ValueError too
            raise ValueError(f"not JSON: {error}") from error
        return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    found = float(text)
    return found if math.isfinite(found) else _refused(text)


_to_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def _dump(value: Any) -> str:
    try:
        text = _to_text(value)
        text.encode()
    except UnicodeEncodeError as error:
        raise NotSerializable("the value holds a lone surrogate, which is no Unicode text") from error
    except ValueError as error:
        raise NotSerializable(f"the value cannot travel: {error}") from error  # an integer of more digits than Python prints
    return text


def _plain(value: Any, path: list[str], special: _Special) -> Any:
    """The JSON of a value; `path` is where it stands, and `special` is given what JSON cannot say."""
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
        return _object(value, path, special)
    if kind is list or kind is tuple:
        return _array(value, path, special)
    return _other(value, path, special)


def _object(value: Mapping[Any, Any], path: list[str], special: _Special) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, item in value.items():
        name = key if type(key) is str else _key(key, path)
        path.append(name)
        plain[name] = _plain(item, path, special)
        path.pop()
    return plain


def _array(value: Iterable[Any], path: list[str], special: _Special) -> list[Any]:
    plain: list[Any] = []
    for i, item in enumerate(value):
        path.append(str(i))
        plain.append(_plain(item, path, special))
        path.pop()
    return plain


def _other(value: Any, path: list[str], special: _Special) -> Any:
    match value:
        case datetime():
            special[_place(path)] = ["Date"]
            return _date(value)
        case set() | frozenset():
            inner: _Special = {}
            items = _array(cast("set[Any]", value), [], inner)
            special[_place(path)] = ["set", inner] if inner else ["set"]
            return items
        case Enum():
            return _plain(value.value, path, special)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return f"{'-' if value < timedelta() else ''}PT{_seconds(abs(value))}S"
        case UUID() | PurePath() | Decimal():
            return str(value)
        case str() | int() | float():
            return _plain(_base(value), path, special)
        case msgspec.Struct():
            return _object(msgspec.structs.asdict(value), path, special)
        case Mapping():
            return _object(cast("Mapping[Any, Any]", value), path, special)
        case list() | tuple() | deque():
            return _array(cast("Iterable[Any]", value), path, special)
        case _ if hasattr(value, "model_dump"):  # a pydantic model, without importing pydantic
            # not in pydantic's JSON mode: it would turn secrets into stars and bytes into text without a word
            return _plain(value.model_dump(by_alias=True), path, special)
        case _ if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
            from dataclasses import fields  # with `inspect` behind it: not at import

            return _object({f.name: getattr(value, f.name) for f in fields(value)}, path, special)
        case _ if type(value).__module__ in _TEXTS:
            return str(value)
        case _:
            raise NotSerializable(f"{_where(path)} is a {type(value).__qualname__}, which cannot travel: return plain data instead")


def _place(path: list[str]) -> str | None:
    return superjson.join_path(path) if path else None  # "" is a key like any other


_TEXTS = frozenset({"ipaddress", "pydantic.networks"})  # addresses: their text says all


def _date(value: datetime) -> str:
    """As JavaScript writes it, in milliseconds, and finer only where something would be lost."""
    aware = (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    spec = "microseconds" if aware.microsecond % 1_000 else "milliseconds"
    return aware.isoformat(timespec=spec).replace("+00:00", "Z")


def _seconds(value: timedelta) -> str:
    whole = value // timedelta(seconds=1)
    return f"{whole}.{value.microseconds:06d}" if value.microseconds else str(whole)


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
