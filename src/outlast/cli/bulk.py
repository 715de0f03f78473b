"""Commands of bulk actions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from outlast.cli.output import details, fail, plainly, table

app = typer.Typer(no_args_is_help=True, help="Cancel or replay many runs at once.")
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Runs = Annotated[list[str] | None, typer.Argument(help="Ids of runs; without them the filters say which.")]
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


@app.command("cancel")
@plainly
def bulk_cancel(
    runs: Runs = None, status: str | None = None, task: str | None = None, tag: str | None = None, queue: str | None = None,
    period: str | None = None, name: str | None = None, wait: Wait = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Cancel runs: those named, or all that match every filter."""
    _begin("cancel", runs, {"status": status, "task": task, "tag": tag, "queue": queue, "period": period}, name, wait, as_json)


@app.command("replay")
@plainly
def bulk_replay(
    runs: Runs = None, status: str | None = None, task: str | None = None, tag: str | None = None, queue: str | None = None,
    period: str | None = None, name: str | None = None, wait: Wait = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Replay runs: those named, or all that match every filter."""
    _begin("replay", runs, {"status": status, "task": task, "tag": tag, "queue": queue, "period": period}, name, wait, as_json)


def _begin(verb: str, runs: list[str] | None, filters: dict[str, str | None], name: str | None, wait: bool, as_json: bool) -> None:
    from outlast.sync import bulk

    given: dict[str, Any] = {key: value for key, value in filters.items() if value is not None}
    if bool(runs) == bool(given):
        fail("name runs, or give at least one filter (--status, --task, --tag, --queue, --period), not both")
    begin = getattr(bulk, verb)
    action: str = begin(run_ids=runs, name=name) if runs else begin(filter=bulk.filter(**given), name=name)
    details(_row(bulk.poll(action) if wait else bulk.retrieve(action)), as_json=as_json)


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
