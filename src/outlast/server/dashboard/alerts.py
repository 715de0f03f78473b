"""Alert channels: who is told of what, what was delivered, and a test."""

from __future__ import annotations

from typing import Any, cast

from msgspec.structs import replace
from starlette.responses import Response

from outlast.model.alert import CHANNEL_TYPES, EVENT_TYPES, AlertChannel
from outlast.server.api.alerts import Body, add, tried
from outlast.server.dashboard import runs
from outlast.server.dashboard.visit import Visit
from outlast.server.problem import Problem
from outlast.store import alerts as store
from outlast.store.database import Connection

DELIVERIES = 50


async def show(visit: Visit) -> Response:
    """GET /alerts, with the deliveries of the channel `id`"""
    chosen = visit.query.get("id", "")

    def read(tx: Connection) -> dict[str, Any]:
        rows = store.listed(tx, visit.env.id)
        channel = next((c for c in rows if c.id == chosen), None)
        deliveries = store.deliveries(tx, channel.id, DELIVERIES) if channel else []
        return {"rows": rows, "channel": channel, "deliveries": deliveries, "tasks": runs.task_names(tx, visit)}

    return visit.page("alerts.html", topics="alerts,runs", types=CHANNEL_TYPES, events=EVENT_TYPES, **await visit.read(read))


async def create(visit: Visit) -> Response:
    """POST /alerts"""
    seconds = visit.text("latencySeconds", 10) or "300"
    body = Body(
        name=visit.text("name", 128, required=True),
        type=visit.text("type", 20, required=True),
        target=visit.text("target", 2_000, required=True),
        events=_words(visit, "events"),
        tasks=_words(visit, "tasks"),
        latency_seconds=int(seconds) if seconds.isascii() and seconds.isdecimal() else 0,
    )
    made, secret = await add(visit.site.context, visit.env.id, body)
    return visit.done(f"Made {made.name}", topics=("alerts",), secret=secret if made.type == "webhook" else None)


def _words(visit: Visit, name: str) -> list[str]:
    """One or several boxes of a form."""
    value = visit.body.get(name, [])
    values = cast("list[Any]", value if isinstance(value, list) else [value])
    return [str(v) for v in values if v]


async def _found(visit: Visit) -> AlertChannel:
    id_ = visit.request.path_params["alert"]
    channel = await visit.read(lambda tx: store.one(tx, id_, visit.env.id)) if "\x00" not in id_ else None
    if channel is None:
        raise Problem(404, "no such alert channel")
    return channel


async def enable(visit: Visit) -> Response:
    """POST /alerts/{alert}/enable with `enabled`"""
    channel = replace(await _found(visit), enabled=visit.body.get("enabled") is True)
    await visit.site.engine.write(lambda tx: store.save(tx, channel))
    return visit.done("On" if channel.enabled else "Off: what happens now is not told", topics=("alerts",))


async def delete(visit: Visit) -> Response:
    """POST /alerts/{alert}/delete"""
    channel = await _found(visit)
    await visit.site.engine.write(lambda tx: store.delete(tx, visit.env.id, channel.id))
    return visit.done(f"Deleted {channel.name}", href="/alerts", topics=("alerts",))


async def try_out(visit: Visit) -> Response:
    """POST /alerts/{alert}/test"""
    await tried(visit.site.context, await _found(visit))
    return visit.done("Delivered")
