"""Commands of queues."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from outlast.cli.options import Json
from outlast.cli.output import details, plainly, table

app = typer.Typer(no_args_is_help=True, help="Queues: list, pause, resume, override limits.")
KindOption = Annotated[str, typer.Option("--type", help="id, task or custom.")]


@app.command("list")
@plainly
def queues_list(as_json: Json = False) -> None:
    """All queues with what they hold."""
    from outlast.sync import queues

    rows = [_queue(queue) for queue in queues.list(page_size=100)]
    table(rows, ("name", "type", "running", "queued", "limit", "paused"), as_json=as_json)


def _queue(queue: Any) -> dict[str, Any]:
    return {
        "id": queue.id,
        "name": queue.name,
        "type": queue.type,
        "running": queue.running,
        "queued": queue.queued,
        "limit": queue.concurrency_limit,
        "paused": queue.paused,
    }


@app.command("pause")
@plainly
def queues_pause(name: str, kind: KindOption = "custom") -> None:
    """Start nothing new from a queue."""
    _show_queue("pause", name, kind)


@app.command("resume")
@plainly
def queues_resume(name: str, kind: KindOption = "custom") -> None:
    """Start runs of a paused queue again."""
    _show_queue("resume", name, kind)


@app.command("override")
@plainly
def queues_override(name: str, limit: int, kind: KindOption = "custom") -> None:
    """Set a queue's limit until it is reset."""
    _show_queue("override_concurrency_limit", name, kind, limit)


@app.command("reset")
@plainly
def queues_reset(name: str, kind: KindOption = "custom") -> None:
    """Back to the limit that the code says."""
    _show_queue("reset_concurrency_limit", name, kind)


def _show_queue(verb: str, name: str, kind: str, *arguments: Any) -> None:
    from outlast.sync import queues

    details(_queue(getattr(queues, verb)(name, *arguments, type=kind)), as_json=False)
