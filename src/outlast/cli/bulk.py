"""Commands of bulk actions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from outlast.cli.options import Json
from outlast.cli.output import details, fail, plainly, table

app = typer.Typer(no_args_is_help=True, help="Cancel or replay many runs at once.")
Runs = Annotated[list[str] | None, typer.Argument(help="Ids of runs; without them the filters say which.")]
Many = Annotated[list[str] | None, typer.Option(help="One of these; several times.")]
Wait = Annotated[bool, typer.Option(help="Wait until it is over.")]


def _row(a: Any) -> dict[str, Any]:
    counts = a.counts
    return {
        "id": a.id,
        "type": a.type,
        "status": a.status,
        "name": a.name,
        "total": counts.total,
        "success": counts.success,
        "failure": counts.failure,
        "created_at": a.created_at,
        "completed_at": a.completed_at,
    }


def _command(verb: Literal["cancel", "replay"]) -> None:
    @plainly
    def command(
        runs: Runs = None,
        status: Many = None,
        task: Many = None,
        tag: Many = None,
        queue: Many = None,
        version: Many = None,
        batch: str | None = None,
        schedule: str | None = None,
        created_from: Annotated[datetime | None, typer.Option(help="Made from then on.")] = None,
        created_to: Annotated[datetime | None, typer.Option(help="Made until then.")] = None,
        period: Annotated[str | None, typer.Option(help="Made in the last 1h, 7d …; 7d unless a time is given.")] = None,
        name: Annotated[str | None, typer.Option(help="What the action is called.")] = None,
        wait: Wait = False,
        as_json: Json = False,
    ) -> None:
        filters = {
            "status": status, "task": task, "tag": tag, "queue": queue, "version": version, "batch": batch, "schedule": schedule,
            "created_from": _in_utc(created_from), "created_to": _in_utc(created_to), "period": period,
        }  # fmt: skip
        _begin(verb, runs, {key: value for key, value in filters.items() if value}, name, wait, as_json)

    app.command(verb, help=f"{verb.capitalize()} runs: those named, or all that match every filter.")(command)


def _in_utc(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _begin(verb: str, runs: list[str] | None, filters: Mapping[str, Any], name: str | None, wait: bool, as_json: bool) -> None:
    from outlast.sync import bulk

    if bool(runs) == bool(filters):
        fail("name runs, or give at least one filter (--status, --task, --tag, …), not both")
    begin = getattr(bulk, verb)
    action: str = begin(run_ids=runs, name=name) if runs else begin(filter=bulk.filter(**filters), name=name)
    details(_row(bulk.poll(action) if wait else bulk.retrieve(action)), as_json=as_json)


_command("cancel")
_command("replay")


@app.command("list")
@plainly
def bulk_list(limit: int = 25, as_json: Json = False) -> None:
    """Bulk actions, the newest first."""
    from itertools import islice

    from outlast.sync import bulk

    rows = [_row(a) for a in islice(bulk.list(page_size=min(max(1, limit), 100)), limit)]
    table(rows, ("id", "type", "status", "name", "total", "success", "failure", "created_at"), as_json=as_json)


@app.command("show")
@plainly
def bulk_show(action: str, as_json: Json = False) -> None:
    """How far one came."""
    from outlast.sync import bulk

    details(_row(bulk.retrieve(action)), as_json=as_json)


@app.command("abort")
@plainly
def bulk_abort(action: str) -> None:
    """Do no more of it."""
    from outlast.sync import bulk

    print(bulk.abort(action))


@app.command("undo")
@plainly
def bulk_undo(action: str, wait: Wait = False) -> None:
    """Take back what it did and has not run."""
    from outlast.sync import bulk

    made = bulk.undo(action)
    details(_row(bulk.poll(made) if wait else bulk.retrieve(made)), as_json=False)
