"""Commands of alerts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from outlast.cli.output import details, plainly, table

app = typer.Typer(no_args_is_help=True, help="Tell people and programs of failed and finished runs.")
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def _row(c: Any) -> dict[str, Any]:
    return {"id": c.id, "name": c.name, "type": c.type, "target": c.target, "events": c.events, "tasks": c.tasks, "enabled": c.enabled}


@app.command("list")
@plainly
def alerts_list(as_json: Json = False) -> None:
    """All channels."""
    from outlast.sync import alerts

    table([_row(c) for c in alerts.list()], ("id", "name", "type", "target", "events", "enabled"), as_json=as_json)


@app.command("create")
@plainly
def alerts_create(
    name: str,
    target: str,
    kind: Annotated[str, typer.Option("--type", help="webhook, slack or email.")] = "webhook",
    event: Annotated[list[str] | None, typer.Option(help="run.failed, run.finished, queue.latency.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only of these tasks.")] = None,
) -> None:
    """Make a channel; the secret that signs its webhooks is shown this once."""
    from outlast.sync import alerts

    given: Any = {"type": kind, "events": event or ["run.failed"]}
    made = alerts.create(name, target=target, tasks=task or [], **given)
    details({**_row(made), "secret": made.secret}, as_json=False)


@app.command("delete")
@plainly
def alerts_delete(channel: str) -> None:
    """Remove a channel."""
    from outlast.sync import alerts

    print(alerts.delete(channel))


@app.command("deliveries")
@plainly
def alerts_deliveries(channel: str, as_json: Json = False) -> None:
    """What it was told, and how that went."""
    from outlast.sync import alerts

    rows = [
        {"created_at": d.created_at, "event": d.event, "ref": d.ref, "status": d.status, "tries": d.tries, "error": d.error}
        for d in alerts.deliveries(channel)
    ]
    table(rows, ("created_at", "event", "ref", "status", "tries", "error"), as_json=as_json)
