"""Commands of alerts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from outlast.cli.options import Json
from outlast.cli.output import details, plainly, table

app = typer.Typer(no_args_is_help=True, help="Tell people and programs of runs, slow queues and new versions.")

Events = Annotated[list[str] | None, typer.Option(help="run.failed, run.finished, queue.latency, deployment.success; several times.")]
Tasks = Annotated[list[str] | None, typer.Option(help="Only of these tasks; several times.")]
Latency = Annotated[int, typer.Option(help="How long a run may wait before its queue is slow.")]


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
    event: Events = None,
    task: Tasks = None,
    latency_seconds: Latency = 300,
    as_json: Json = False,
) -> None:
    """Make a channel; the secret that signs its webhooks is shown this once."""
    from outlast.sync import alerts

    given: Any = {"type": kind, "events": event or ["run.failed"]}
    made = alerts.create(name, target=target, tasks=task or [], latency_seconds=latency_seconds, **given)
    details({**_row(made), "secret": made.secret}, as_json=as_json)


@app.command("show")
@plainly
def alerts_show(channel: str, as_json: Json = False) -> None:
    """One channel."""
    from outlast.sync import alerts

    details(_row(alerts.retrieve(channel)), as_json=as_json)


@app.command("update")
@plainly
def alerts_update(
    channel: str,
    name: str | None = None,
    target: str | None = None,
    event: Events = None,
    task: Tasks = None,
    enabled: Annotated[bool | None, typer.Option(help="Whether it is told of anything.")] = None,
    latency_seconds: Annotated[int | None, typer.Option(help="How long a run may wait before a queue is slow.")] = None,
    as_json: Json = False,
) -> None:
    """Change a channel; what is not given stays as it is."""
    from outlast.sync import alerts

    given: Any = {"events": event}
    new = alerts.update(channel, name=name, target=target, tasks=task, enabled=enabled, latency_seconds=latency_seconds, **given)
    details(_row(new), as_json=as_json)


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
