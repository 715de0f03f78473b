"""Alerts: who is told of what."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

ChannelType = Literal["webhook", "slack", "email"]
EventType = Literal["run.failed", "run.finished", "queue.latency", "deployment.success"]
CHANNEL_TYPES: tuple[str, ...] = get_args(ChannelType)
EVENT_TYPES: tuple[str, ...] = get_args(EventType)


class AlertChannel(msgspec.Struct, frozen=True, kw_only=True):
    """`target` is an address of the web, or a mail address; no `tasks`: all. `secret` is sealed."""

    id: str
    env_id: int
    name: str
    type: ChannelType
    target: str
    secret: str
    events: list[EventType]
    tasks: list[str] = []
    enabled: bool = True
    latency_seconds: int = 300
    created_at: int

    def wants(self, event: EventType, task: str | None) -> bool:
        """`task` None: it is about no task, so that `tasks` does not matter."""
        return self.enabled and event in self.events and (task is None or not self.tasks or task in self.tasks)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """`ref` is the run, the queue or the version; `grouped`: how many more of the kind this one stands for."""

    id: str
    channel_id: str
    env_id: int
    event: EventType
    ref: str
    grouped: int = 0
    status: Literal["PENDING", "DELIVERED", "FAILED"] = "PENDING"
    tries: int = 0
    next_at: int | None = None
    created_at: int
    error: str | None = None


def told(channel: AlertChannel, event: EventType, ref: str, now: int, *, grouped: int = 0, suffix: str = "") -> Delivery:
    """What a channel is to be told of now. An equal id is one event, however often it is planned."""
    return Delivery(
        id=f"{channel.id}:{event}:{ref}{suffix}", channel_id=channel.id, env_id=channel.env_id, event=event, ref=ref, grouped=grouped,
        next_at=now, created_at=now,
    )  # fmt: skip
