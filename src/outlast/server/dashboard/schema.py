"""A payload schema for people: the fields of a form, and what is wrong with what they typed."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, cast

Schema = dict[str, Any]
MAX_DEPTH = 30
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,), "object": (dict,),
    "null": (type(None),),
}  # fmt: skip


class Field(NamedTuple):
    """One input of a form. `kind`: text, number, integer, check, choice or json."""

    name: str
    kind: str
    label: str
    help: str
    required: bool
    value: str
    choices: tuple[str, ...] = ()


def fields(schema: Schema | None) -> list[Field]:
    """The fields of an object's schema; none when the payload is no object, and is typed as JSON."""
    if not schema:
        return []
    found = _resolved(schema, schema)
    properties: dict[str, Schema] = found.get("properties") or {}
    if found.get("type") != "object" or not properties:
        return []
    required = _names(found)
    return [_field(schema, name, part, name in required) for name, part in properties.items()]


def _field(root: Schema, name: str, part: Schema, required: bool) -> Field:
    part = _resolved(root, part)
    listed = cast("list[Any]", part.get("enum") or [])
    choices = tuple(c for c in listed if isinstance(c, str))
    kinds = {"string": "choice" if choices else "text", "integer": "integer", "number": "number", "boolean": "check"}
    kind = kinds.get(str(part.get("type")), "json")
    default = part.get("default")
    value = "" if default is None else default if isinstance(default, str) and kind in ("text", "choice") else json.dumps(default)
    return Field(name, kind, str(part.get("title") or name), str(part.get("description") or ""), required, value, choices)


def assemble(schema: Schema, typed: dict[str, Any]) -> str:
    """JSON text of a form; empty fields that are not required are left out.

    Raises:
        ValueError: (field, what is wrong).
    """
    parts: list[str] = []
    for f in fields(schema):
        text = typed.get(f"f.{f.name}")
        text = "" if text is None else str(text)
        if f.kind == "check":
            parts.append(f"{json.dumps(f.name)}: {'true' if text else 'false'}")
        elif text or (f.required and f.kind == "text"):
            parts.append(f"{json.dumps(f.name)}: {_literal(f, text)}")
        elif f.required:
            raise ValueError(f"f.{f.name}", "is required")
    return "{" + ", ".join(parts) + "}"


def _literal(f: Field, text: str) -> str:
    if f.kind in ("text", "choice"):
        return json.dumps(text, ensure_ascii=False)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"f.{f.name}", f"is not JSON: {error}") from error
    if f.kind == "integer" and (not isinstance(found, int) or isinstance(found, bool)):
        raise ValueError(f"f.{f.name}", "must be a whole number")
    if f.kind == "number" and (not isinstance(found, (int, float)) or isinstance(found, bool)):
        raise ValueError(f"f.{f.name}", "must be a number")
    return text.strip()


def example(schema: Schema | None) -> str:
    """A payload to start from."""
    return json.dumps(_example(schema, schema, 0), indent=2, ensure_ascii=False) if schema else "{}"


def _example(root: Schema, part: Schema, depth: int) -> Any:
    part = _resolved(root, part)
    if "default" in part:
        return part["default"]
    if part.get("enum"):
        return part["enum"][0]
    match part.get("type"):
        case "object" if depth < MAX_DEPTH:
            properties: dict[str, Schema] = part.get("properties") or {}
            return {
                name: _example(root, p, depth + 1) for name, p in properties.items() if name in (part.get("required") or []) or depth == 0
            }
        case "object":
            return {}
        case "array":
            return []
        case "integer" | "number":
            return part.get("minimum", 0)
        case "boolean":
            return False
        case "string":
            return ""
        case _:
            return None


def wrong(schema: Schema | None, value: Any) -> str | None:
    """The first thing that does not fit, and where: types, required names, choices and simple bounds. The task checks the rest."""
    return _wrong(schema, schema, value, "the payload", 0) if schema else None


def _wrong(root: Schema, part: Schema, value: Any, where: str, depth: int) -> str | None:
    part = _resolved(root, part)
    if depth > MAX_DEPTH:
        return None
    options = cast("list[Schema]", part.get("anyOf") or part.get("oneOf") or [])
    if options:
        found = [_wrong(root, option, value, where, depth + 1) for option in options]
        return None if None in found else found[0]
    if "enum" in part and value not in part["enum"]:
        return f"{where} must be one of {', '.join(json.dumps(v) for v in part['enum'][:10])}"
    kinds = part.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(kind, value) for kind in kinds):
        return f"{where} must be {' or '.join(kinds)}, not {_said(value)}"
    return _bounds(part, value, where) or _inside(root, part, value, where, depth)


def _inside(root: Schema, part: Schema, value: Any, where: str, depth: int) -> str | None:
    if isinstance(value, dict):
        names = cast("dict[str, Any]", value)
        properties = cast("dict[str, Schema]", part.get("properties") or {})
        for name in _names(part):
            if name not in names:
                return f"{where} lacks {json.dumps(name)}"
        for name, inner in properties.items():
            if name in names and (found := _wrong(root, inner, names[name], name if depth == 0 else f"{where}.{name}", depth + 1)):
                return found
        if part.get("additionalProperties") is False and (more := set(names) - set(properties)):
            return f"{where} has {json.dumps(min(more))}, which is not known"
    if isinstance(value, list) and isinstance(part.get("items"), dict):
        for i, item in enumerate(cast("list[Any]", value)):
            if found := _wrong(root, part["items"], item, f"{where}[{i}]", depth + 1):
                return found
    return None


def _bounds(part: Schema, value: Any, where: str) -> str | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if "minimum" in part and value < part["minimum"]:
            return f"{where} must be at least {part['minimum']}"
        if "maximum" in part and value > part["maximum"]:
            return f"{where} must be at most {part['maximum']}"
    if isinstance(value, str) and len(value) < part.get("minLength", 0):
        return f"{where} must have at least {part['minLength']} characters"
    if isinstance(value, str) and len(value) > part.get("maxLength", len(value)):
        return f"{where} must have at most {part['maxLength']} characters"
    return None


def _names(part: Schema) -> list[str]:
    """Of what an object must have."""
    return cast("list[str]", part.get("required") or [])


def _is(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, (object,)))


def _said(value: Any) -> str:
    return next(name for name in ("null", "boolean", "integer", "number", "string", "array", "object") if _is(name, value))


def _resolved(root: Schema, part: Schema) -> Schema:
    """Through `$ref`s of the schema itself; and through a single option beside null."""
    for _ in range(MAX_DEPTH):
        ref = part.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#/"):
            break
        found: Any = root
        for step in ref[2:].split("/"):
            found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
        part = {**(cast("Schema", found) if isinstance(found, dict) else {}), **{k: v for k, v in part.items() if k != "$ref"}}
    return part
