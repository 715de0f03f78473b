"""How commands speak: tables for people, JSON for programs, one clear line for what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")


def fail(message: str) -> NoReturn:
    """One line on stderr, and exit status 1."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """Expected errors become one line instead of a traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from outlast.errors import OutlastError
        from outlast.store.database import DatabaseError, DatabaseUnusable
        from outlast.worker.supervisor import WorkerRefused

        try:
            return command(*args, **kwargs)
        except (OutlastError, DatabaseUnusable, DatabaseError, WorkerRefused) as error:
            fail(str(error))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(list(rows), default=_plain, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.replace("_", " "), no_wrap=True, overflow="ellipsis")
    for row in rows:
        made.add_row(*[shown(row.get(column)) for column in columns])
    Console(width=None if sys.stdout.isatty() else 200).print(made)


def details(row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(row, default=_plain, ensure_ascii=False, indent=2))
        return
    width = max(len(name) for name in row)
    for name, value in row.items():
        if value not in (None, [], {}):
            print(f"{name.replace('_', ' '):{width}}  {shown(value)}")


def shown(value: Any) -> str:
    """A value as text that cannot move the terminal's cursor: users named and logged it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    import msgspec

    return msgspec.to_builtins(value)
