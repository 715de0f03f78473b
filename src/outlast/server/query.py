"""Query strings: page sizes, lists and times, the same on every route that lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from starlette.requests import Request

from outlast.model.duration import parse_duration
from outlast.server.problem import Problem, invalid

MAX_PAGE = 100
T = TypeVar("T")


class Between(Protocol):
    """A filter that looks at one side of a row, or at neither."""

    @property
    def before(self) -> str | None: ...
    @property
    def after(self) -> str | None: ...


def page_size(request: Request, *, default: int, limit: int = MAX_PAGE) -> int:
    return number(request, "page[size]", default, limit)


def number(request: Request, name: str, default: int, limit: int, *, least: int = 1) -> int:
    """A whole number of the query, from `least` to `limit`."""
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or not least <= int(text[:17]) <= limit:
        raise invalid(f"{name} must be {least} to {limit}", name)
    return int(text)


def many(query: Mapping[str, str], name: str) -> list[str]:
    """A list with commas in between."""
    text = query.get(name, "")
    if "\x00" in text:
        raise invalid(f"{name} holds a character that is no text", name)
    return [part for part in text.split(",") if part]


def one(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    if text is not None and "\x00" in text:
        raise invalid(f"{name} holds a character that is no text", name)
    return text or None


def cursor(text: str, prefix: str) -> str:
    """A cursor is the id of what a page ended with: comparing ids shows nobody anything of other environments."""
    if not text.startswith(prefix) or not text.removeprefix(prefix).isalnum() or not text.isascii() or len(text) > 64:
        raise Problem(400, "the cursor is not one of ours", code="invalid_cursor")
    return text


def cut(rows: list[T], size: int, f: Between, id_of: Callable[[T], str]) -> tuple[list[T], dict[str, str]]:
    """A page of what was read, which is one more than the page if there are more; and how to go on, in both directions."""
    more, backwards = len(rows) > size, f.before is not None
    kept = (rows[1:] if more else rows) if backwards else rows[:size]
    pagination: dict[str, str] = {}
    if kept and (more or backwards):
        pagination["next"] = id_of(kept[-1])
    if kept and ((backwards and more) or (not backwards and f.after is not None)):
        pagination["previous"] = id_of(kept[0])
    return kept, pagination


def times(query: Mapping[str, str], now: int, name: str, *, default_ms: int | None) -> tuple[int | None, int | None]:
    """(from, to) in UTC ms, of two bounds or a period until now. `name` is how they are called, as in `filter[createdAt][{}]`.

    Raises:
        Problem: 400, naming the parameter.
    """
    start, end = (_bound(query, name.format(bound)) for bound in ("from", "to"))
    if start is not None and end is not None and start > end:
        raise invalid(f"{name.format('from')} is after {name.format('to')}", name.format("from"))
    period = query.get(name.format("period"))
    if period is not None:
        try:
            return now - parse_duration(period), end
        except ValueError as error:
            raise invalid(f"{name.format('period')}: {error}", name.format("period")) from error
    return (now - default_ms if start is None and end is None and default_ms is not None else start), end


def _bound(query: Mapping[str, str], name: str) -> int | None:
    """Unix milliseconds, or an ISO date."""
    text = query.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 15:
        return int(text)
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise invalid(f"{name} must be unix milliseconds or an ISO date", name) from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)
