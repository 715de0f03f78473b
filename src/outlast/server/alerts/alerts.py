"""Alerts: read the outbox, plan who is told of what, deliver it at least once. Every server does it, and none leads."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from msgspec.structs import replace

from outlast.engine.engine import Engine
from outlast.model.alert import AlertChannel, Delivery, told
from outlast.model.run import FAILED, Execution
from outlast.server.alerts.sending import About, Ways, content, send, trial
from outlast.server.vault import Vault
from outlast.store import alerts as store
from outlast.store import catalog, deployments, outbox, search
from outlast.store.database import Connection, DatabaseError
from outlast.store.outbox import Change

log = logging.getLogger("outlast.alerts")

READ = 500  # changes planned in one transaction
AT_ONCE = 10  # deliveries under way at a time: a receiver that hangs delays nobody else
TAKEN_MS = 60_000  # six timeouts of a request
MAX_TRIES = 12  # over some eight hours
FIRST_RETRY_MS = 5_000
MAX_RETRY_MS = 3_600_000
GROUP_MS = 60_000  # failures of one task are told once, then together once a minute
IDLE_SECONDS = 1.0
LATENCY_SECONDS = 15.0  # between two looks at queues
LATENCY_AGAIN_MS = 900_000  # a queue that stays slow is told of again after this
KEPT_MS = 7 * 86_400_000


def purpose(channel_id: str) -> str:
    return f"alert_channel:{channel_id}"


class Alerts:
    def __init__(self, engine: Engine, vault: Vault, ways: Ways) -> None:
        self.engine = engine
        self.vault = vault
        self.ways = ways

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        next_latency = 0.0
        while True:
            try:
                if await self.engine.read(store.listed):
                    while await self.plan():
                        pass
                    if loop.time() >= next_latency:
                        await self.latency()
                        next_latency = loop.time() + LATENCY_SECONDS
                    await self.deliver()
            except DatabaseError as error:
                log.warning("alerts wait for the database", extra={"error": str(error)})
            await asyncio.sleep(IDLE_SECONDS)

    # ---- planning

    async def plan(self) -> int:
        """Read on in the outbox; how many changes that were. Deliveries and the place in the outbox are one transaction."""
        return await self.engine.write(self._plan)

    def _plan(self, tx: Connection) -> int:
        position = store.position(tx)
        if position is None:
            return 0
        now = self.engine.clock.now()
        channels = store.listed(tx)
        changes, _ = outbox.after(tx, position, READ)
        for change in changes:
            if _is_end(change):
                for channel in channels:
                    self._plan_one(tx, channel, change, now)
        for channel_id, key, more, ref in store.ended_groups(tx, now, READ):
            store.close_group(tx, channel_id, key)
            channel = next((c for c in channels if c.id == channel_id), None)
            if more and channel is not None:
                store.plan(tx, [told(channel, "run.failed", ref, now, grouped=more - 1, suffix=f":{now}")])
                store.save_group(tx, channel_id, key, now + GROUP_MS, 0, ref)
        if changes:
            store.move(tx, changes[-1].position)
        return len(changes)

    def _plan_one(self, tx: Connection, channel: AlertChannel, change: Change, now: int) -> None:
        if channel.env_id != change.env_id:
            return
        if channel.wants("run.finished", change.task):
            store.plan(tx, [told(channel, "run.finished", change.run_id, now)])
        if change.status in FAILED and channel.wants("run.failed", change.task):
            group = store.group(tx, channel.id, change.task)
            if group is None:
                store.plan(tx, [told(channel, "run.failed", change.run_id, now)])
                store.save_group(tx, channel.id, change.task, now + GROUP_MS, 0, change.run_id)
            else:
                store.save_group(tx, channel.id, change.task, group[0], group[1] + 1, change.run_id)

    async def latency(self) -> None:
        """Queues whose oldest run waits longer than a channel allows."""

        def look(tx: Connection) -> None:
            now = self.engine.clock.now()
            for channel in store.listed(tx):
                if channel.wants("queue.latency", None):
                    slow = store.slow_queues(tx, channel.env_id, now - channel.latency_seconds * 1_000)
                    again = f":{now // LATENCY_AGAIN_MS}"
                    store.plan(tx, [told(channel, "queue.latency", f"{queue}@{oldest}", now, suffix=again) for queue, oldest in slow])

        await self.engine.write(look)
        await self.engine.write(lambda tx: store.prune(tx, self.engine.clock.now() - KEPT_MS, 1_000))

    # ---- delivering

    async def deliver(self) -> int:
        """Send what is due; how many were tried."""
        now = self.engine.clock.now()
        due = await self.engine.write(lambda tx: store.take(tx, now, now + TAKEN_MS, AT_ONCE))
        await asyncio.gather(*(self._deliver(d) for d in due))
        return len(due)

    async def _deliver(self, d: Delivery) -> None:
        now = self.engine.clock.now()
        channel = await self.engine.read(lambda tx: store.one(tx, d.channel_id))
        if channel is None:
            return
        try:
            await self.send(channel, d)
        except Exception as error:  # whatever the network, the receiver or a library said: it is tried again
            reason = f"{type(error).__name__}: {error}"[:500]
            tries = d.tries + 1
            if tries >= MAX_TRIES:
                log.warning("alert was not delivered", extra={"channel": channel.id, "error": reason})
                d = replace(d, status="FAILED", tries=tries, next_at=None, error=reason)
            else:
                d = replace(d, tries=tries, next_at=now + min(MAX_RETRY_MS, FIRST_RETRY_MS * 3**d.tries), error=reason)
        else:
            d = replace(d, status="DELIVERED", tries=d.tries + 1, next_at=None, error=None)
        await self.engine.write(lambda tx: store.done(tx, d))
        self.engine.publish(channel.env_id, "alerts")

    async def try_out(self, channel: AlertChannel) -> None:
        """Send a test now.

        Raises:
            Exception: it was not taken; whatever the network or the other side said.
        """
        env = await self.engine.read(lambda tx: catalog.environment(tx, channel.env_id))
        now = self.engine.clock.now()
        await self._send(channel, trial(f"{channel.id}:test:{now}", env, now))

    async def send(self, channel: AlertChannel, d: Delivery) -> None:
        env = await self.engine.read(lambda tx: catalog.environment(tx, channel.env_id))
        about = await self.engine.read(lambda tx: _about(tx, d))
        await self._send(channel, content(d, env, about))

    async def _send(self, channel: AlertChannel, body: dict[str, Any]) -> None:
        secret = self.vault.open(purpose(channel.id), channel.secret)
        await send(channel, body, secret=secret, now=self.engine.clock.now(), ways=self.ways)


def _about(tx: Connection, d: Delivery) -> About:
    match d.event:
        case "queue.latency":
            return None
        case "deployment.success":
            found = deployments.read(tx, d.env_id, d.ref)
            return None if found is None else (found, sorted(catalog.task_definitions(tx, d.env_id, d.ref)))
        case _:
            return search.one(tx, d.env_id, d.ref)


def _is_end(change: Change) -> bool:
    """A cancelled run ends for users when it is cancelled, not once more when its worker confirms."""
    ended = change.execution in (Execution.FINISHED, Execution.PENDING_CANCEL)
    return change.is_final and ended
