"""Commands of schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from outlast.cli.options import Json
from outlast.cli.output import details, fail, plainly, table

app = typer.Typer(no_args_is_help=True, help="Schedules: make, look, pause, preview, backfill.")


def _row(s: Any) -> dict[str, Any]:
    return {
        "id": s.id,
        "task": s.task,
        "type": s.type,
        "cron": s.cron,
        "timezone": s.timezone,
        "active": s.active,
        "next_run": s.next_run,
        "last_run": s.last_run,
        "last_run_id": s.last_run_id,
        "window": s.window,
        "overlap": s.overlap,
        "catch_up": s.catch_up,
        "deduplication_key": s.deduplication_key,
        "external_id": s.external_id,
        "pause_reason": s.pause_reason,
    }


@app.command("list")
@plainly
def schedules_list(as_json: Json = False) -> None:
    """All schedules of the environment."""
    from outlast.sync import schedules

    rows = [_row(s) for s in schedules.list(page_size=100)]
    table(rows, ("id", "task", "type", "cron", "timezone", "active", "next_run", "last_run"), as_json=as_json)


@app.command("show")
@plainly
def schedules_show(schedule: str, as_json: Json = False) -> None:
    """One schedule."""
    from outlast.sync import schedules

    details(_row(schedules.retrieve(schedule)), as_json=as_json)


@app.command("create")
@plainly
def schedules_create(
    task: str,
    cron: str,
    key: Annotated[str, typer.Option(help="Deduplication key: the same key changes the schedule instead of making another.")],
    timezone: str = "UTC",
    external_id: str | None = None,
    window: str | None = None,
    overlap: str = "allow",
    catch_up: str = "none",
    as_json: Json = False,
) -> None:
    """Make a schedule of a scheduled task, or change the one with this key."""
    from outlast.sync import schedules

    policies: Any = {"overlap": overlap, "catch_up": catch_up}
    made = schedules.create(
        task=task, cron=cron, deduplication_key=key, timezone=timezone, external_id=external_id, window=window, **policies
    )
    details(_row(made), as_json=as_json)


@app.command("update")
@plainly
def schedules_update(
    schedule: str,
    cron: str | None = None,
    task: str | None = None,
    timezone: str | None = None,
    external_id: str | None = None,
    window: str | None = None,
    overlap: str | None = None,
    catch_up: str | None = None,
    as_json: Json = False,
) -> None:
    """Change a schedule; what is not given stays as it is."""
    from outlast.sync import schedules

    old = schedules.retrieve(schedule)
    given: Any = {
        "task": task, "cron": cron, "timezone": timezone, "external_id": external_id, "window": window, "overlap": overlap,
        "catch_up": catch_up,
    }  # fmt: skip
    new = schedules.update(schedule, **{name: getattr(old, name) if value is None else value for name, value in given.items()})
    details(_row(new), as_json=as_json)


@app.command("upcoming")
@plainly
def schedules_upcoming(schedule: str, count: int = 10, as_json: Json = False) -> None:
    """Its next times."""
    from outlast.sync import schedules

    table([{"time": at} for at in schedules.upcoming(schedule, count=count)], ("time",), as_json=as_json)


@app.command("timezones")
@plainly
def schedules_timezones(as_json: Json = False) -> None:
    """The zones that may be used."""
    from outlast.sync import schedules

    table([{"timezone": name} for name in schedules.timezones()], ("timezone",), as_json=as_json)


@app.command("activate")
@plainly
def schedules_activate(schedule: str) -> None:
    """Go on, with the next time from now."""
    from outlast.sync import schedules

    details(_row(schedules.activate(schedule)), as_json=False)


@app.command("deactivate")
@plainly
def schedules_deactivate(schedule: str, reason: str | None = None) -> None:
    """Pause a schedule, and say why."""
    from outlast.sync import schedules

    details(_row(schedules.deactivate(schedule, reason=reason)), as_json=False)


@app.command("delete")
@plainly
def schedules_delete(schedule: str) -> None:
    """Delete a schedule; its runs stay."""
    from outlast.sync import schedules

    print(schedules.delete(schedule))


@app.command("ticks")
@plainly
def schedules_ticks(schedule: str, limit: int = 50, as_json: Json = False) -> None:
    """What was done at its last times: a run, or the reason why there is none."""
    from outlast.sync import schedules

    rows = [{"timestamp": t.timestamp, "at": t.at, "run_id": t.run_id, "reason": t.reason} for t in schedules.ticks(schedule, limit=limit)]
    table(rows, ("timestamp", "run_id", "reason"), as_json=as_json)


@app.command("preview")
@plainly
def schedules_preview(cron: str, timezone: str = "UTC", count: int = 10, as_json: Json = False) -> None:
    """The next times of a pattern; needs no server."""
    from outlast.sync import schedules

    try:
        times = schedules.preview(cron, timezone=timezone, count=count)
    except ValueError as error:
        fail(str(error))
    table([{"time": at} for at in times], ("time",), as_json=as_json)


@app.command("backfill")
@plainly
def schedules_backfill(schedule: str, start: str, end: str) -> None:
    """Make the runs of past times in a range; both ends are ISO dates with a zone."""
    from outlast.sync import schedules

    try:
        count = schedules.backfill(schedule, start=datetime.fromisoformat(start), end=datetime.fromisoformat(end))
    except ValueError as error:
        fail(f"start and end are ISO dates with a zone: {error}")
    print(f"{count} times in this range")
