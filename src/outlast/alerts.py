"""`alerts`: tell people and programs of failed and finished runs, of slow queues, and of new versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from outlast.client import flow as requests
from outlast.client.answers import AlertChannel, AlertDelivery
from outlast.client.calls import call
from outlast.pending import Pending

Event = Literal["run.failed", "run.finished", "queue.latency", "deployment.success"]


def create(
    name: str,
    *,
    type: Literal["webhook", "slack", "email"],
    target: str,
    events: Sequence[Event] = ("run.failed",),
    tasks: Sequence[str] = (),
    latency_seconds: int = 300,
) -> Pending[AlertChannel]:
    """A channel: a signed webhook, Slack's kind of webhook, or a mail address; without `tasks` it hears of all.

    The `secret` of the answer signs its webhooks, and is shown this once.

    Raises:
        ApiError: 422 for an address on a private network, or an event that there is not.
    """
    body = {
        "name": name, "type": type, "target": target, "events": [*events], "tasks": [*tasks], "latencySeconds": latency_seconds,
    }  # fmt: skip
    return call("alerts.create(…)", requests.create_alert(body))


def list() -> Pending[Sequence[AlertChannel]]:
    """All channels of the environment."""
    return call("alerts.list()", requests.list_alerts())


def retrieve(channel: str) -> Pending[AlertChannel]:
    """One channel, by its id."""
    return call("alerts.retrieve(…)", requests.retrieve_alert(channel))


def update(
    channel: str,
    *,
    name: str | None = None,
    target: str | None = None,
    events: Sequence[Event] | None = None,
    tasks: Sequence[str] | None = None,
    enabled: bool | None = None,
    latency_seconds: int | None = None,
) -> Pending[AlertChannel]:
    """Change a channel; what is not given stays as it is. One that is not `enabled` is told of nothing, also not later.

    Raises:
        ApiError: 422 as of `create`.
    """
    given = {
        "name": name, "target": target, "events": events and [*events], "tasks": tasks if tasks is None else [*tasks], "enabled": enabled,
        "latencySeconds": latency_seconds,
    }  # fmt: skip
    return call("alerts.update(…)", requests.update_alert(channel, {key: value for key, value in given.items() if value is not None}))


def delete(channel: str) -> Pending[str]:
    """Remove a channel, with what was not delivered yet. Gives the id."""
    return call("alerts.delete(…)", requests.delete_alert(channel))


def deliveries(channel: str) -> Pending[Sequence[AlertDelivery]]:
    """The last hundred things it was told, and how that went."""
    return call("alerts.deliveries(…)", requests.alert_deliveries(channel))
