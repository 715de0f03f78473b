"""Options that many commands share, and the settings they become."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Data = Annotated[str | None, typer.Option(help="Folder of the SQLite file.")]
Database = Annotated[str | None, typer.Option(help="sqlite:///path or postgresql://…")]


def settings_of(**arguments: Any) -> Any:
    from outlast.settings import Settings

    return Settings(arguments)
