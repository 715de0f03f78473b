"""Query strings: page sizes, lists and times, the same on every route that lists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.requests import Request

from outlast.model.duration import parse_duration
from outlast.server.problem import invalid

MAX_PAGE = 100


def page_size(request: Request, *, default: int, limit: int = MAX_PAGE) -> int:
    text = request.query_params.get("page[size]", str(default))
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= limit:
        raise invalid(f"page[size] must be 1 to {limit}", "page[size]")
    return int(text)


def many(query: Mapping[str, str], name: str) -> list[str]:
    """A list with commas in between."""
    text = query.get(name, "")
    if "\x00" in text:
        raise invalid(f"{name} holds a character that is no text", name)
    return [part for part in text.split(",") if part]


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
