"""The schema of a task: its payload's annotation, or `schema=`. Built when it is first needed; untyped payloads need none."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import sys
import typing
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from outlast.model import payload as packets

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_OPEN = (Any, object, None)
_adapters: weakref.WeakKeyDictionary[Any, TypeAdapter[Any] | None] = weakref.WeakKeyDictionary()


class Schema:
    """Checks payloads with pydantic, or with a callable that raises."""

    def __init__(self, fn: Callable[..., Any], explicit: Any = None) -> None:
        self._fn = fn
        self._explicit = explicit
        self._hints: dict[str, Any] | None = None
        self._adapters: dict[str, TypeAdapter[Any] | None] = {}

    @property
    def is_open(self) -> bool:
        """Whether any JSON is fine."""
        return self._explicit is None and self._adapter("payload") is None

    def check(self, payload: Any) -> Any:
        """Raise what the schema's library raises when a payload does not fit; what it makes of the payload travels."""
        if self._is_plain_callable:
            self._explicit(payload)
            return payload
        adapter = self._adapter("payload")
        if adapter is None:
            return payload
        # by alias: what the worker's validation asks for, and what readers in other languages know
        return adapter.dump_python(adapter.validate_python(payload, **_names()), by_alias=True)

    def read(self, data: str | None, data_type: str) -> Any:
        if self._is_plain_callable:
            return self._explicit(packets.decode(data, data_type))
        adapter = self._adapter("payload")
        return _read(adapter, data, data_type)

    def read_output(self, data: str | None, data_type: str) -> Any:
        return _read(self.output, data, data_type)

    @property
    def output(self) -> TypeAdapter[Any] | None:
        """What results are read with; None: any JSON is fine."""
        return self._adapter("return")

    def prepare(self) -> None:
        """Build what reading needs, before processes are forked that would build it each for itself. Errors show when it is used."""
        with contextlib.suppress(Exception):
            if not self.is_open and not self._is_plain_callable:
                self._adapter("payload")
                _names()
            self._adapter("return")

    def json_schema(self) -> dict[str, Any] | None:
        """The JSON schema of the payload, for forms and tools; None when there is none, or the type has none."""
        if self._is_plain_callable:
            return None
        adapter = self._adapter("payload")
        if adapter is None:
            return None
        from pydantic import PydanticInvalidForJsonSchema

        try:
            return adapter.json_schema()
        except PydanticInvalidForJsonSchema:
            return None

    @property
    def _is_plain_callable(self) -> bool:
        explicit = self._explicit
        return explicit is not None and callable(explicit) and not isinstance(explicit, type) and typing.get_origin(explicit) is None

    def _adapter(self, name: str) -> TypeAdapter[Any] | None:
        if name not in self._adapters:
            self._adapters[name] = self._build(name)
        return self._adapters[name]

    def _build(self, name: str) -> TypeAdapter[Any] | None:
        annotation = self._explicit if name == "payload" and self._explicit is not None else self._annotation(name)
        if annotation in _OPEN or annotation is type(None):
            return None
        from pydantic import TypeAdapter

        return cast("TypeAdapter[Any]", annotation) if isinstance(annotation, TypeAdapter) else TypeAdapter(_readable(annotation))

    def _annotation(self, name: str) -> Any:
        if self._hints is None:
            annotations = getattr(self._fn, "__annotations__", {})
            wanted = {key for key in ("payload", "return") if key in annotations}
            self._hints = typing.get_type_hints(self._fn, include_extras=True) if wanted else {}
        return self._hints.get(name, Any)


def read_result(fn: Callable[..., Any], data: str | None, data_type: str) -> Any:
    """What a function gave, by its return annotation. An adapter costs 100 µs to build: it is kept as long as the function lives."""
    function = getattr(fn, "__func__", fn)  # a bound method is made anew at each access
    try:
        adapter = _adapters[function]
    except (KeyError, TypeError):
        adapter = Schema(fn).output
        with contextlib.suppress(TypeError):  # nothing can refer to it weakly
            _adapters[function] = adapter
    return _read(adapter, data, data_type)


def _read(adapter: TypeAdapter[Any] | None, data: str | None, data_type: str) -> Any:
    if adapter is None:
        return packets.decode(data, data_type)
    if data is not None and data_type == packets.JSON:
        return adapter.validate_json(data, **_names())  # JSON mode takes texts for dates also where the model is strict
    value = packets.decode(data, data_type)
    try:
        return adapter.validate_python(value, **_names())
    except ValueError:  # pydantic's ValidationError
        if data is None or data_type != packets.SUPERJSON:
            raise
        try:  # a strict model takes dates as they were decoded, and ids, enums and sets only as JSON has them
            return adapter.validate_json(json.dumps(packets.to_json(data, data_type)), **_names())
        except ValueError:
            pass
        raise


@functools.cache
def _names() -> dict[str, Any]:
    """Fields are also found by their names where an alias would only be read; pydantic has known how since 2.11."""
    from pydantic import TypeAdapter

    validate = cast("Callable[..., Any]", TypeAdapter.validate_python)  # pyright: ignore[reportUnknownMemberType]
    known = "by_name" in inspect.signature(validate).parameters
    return {"by_alias": True, "by_name": True} if known else {}


def _readable(annotation: Any) -> Any:
    """Before Python 3.12 pydantic reads only the TypedDict of typing_extensions: make the user's into one."""
    if sys.version_info >= (3, 12):
        return annotation
    if typing.is_typeddict(annotation):
        from typing import NotRequired

        from typing_extensions import TypedDict

        hints = {name: _readable(hint) for name, hint in typing.get_type_hints(annotation).items()}
        fields = {name: hint if name in annotation.__required_keys__ else NotRequired[hint] for name, hint in hints.items()}
        return TypedDict(annotation.__name__, fields)  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType, reportArgumentType]
    arguments = typing.get_args(annotation)
    if arguments and any(typing.is_typeddict(argument) for argument in arguments) and hasattr(annotation, "copy_with"):
        return annotation.copy_with(tuple(_readable(argument) for argument in arguments))
    origin: Any = typing.get_origin(annotation)
    if origin in (list, dict, tuple, set) and arguments:
        return origin[tuple(_readable(argument) for argument in arguments)]  # pyright: ignore[reportInvalidTypeArguments]
    return annotation
