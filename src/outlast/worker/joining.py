"""Staying connected to a session as one of its executors, until it is over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from outlast.worker.connection import Connection, ConnectionClosed, SessionEnded, WebSocketConnection
from outlast.worker.control import Assign

MIN_DELAY_SECONDS = 0.05
MAX_DELAY_SECONDS = 1.0


Connect = Callable[[str, str | None], Awaitable[Connection]]


class Joins(Protocol):
    """What speaks as an executor."""

    has_joined: bool

    async def serve(self, connection: Connection, session: str, token: str) -> None: ...


async def stay_joined(
    executor: Joins, assign: Assign, on_over: Callable[[str, bool], None], *, connect: Connect = WebSocketConnection.open
) -> None:
    """`on_over` hears why it was sent away, and whether there is no use in coming back."""
    delay = MIN_DELAY_SECONDS
    while True:
        try:
            connection = await connect(assign.url, None)
            await executor.serve(connection, assign.session, assign.token)
        except SessionEnded as ended:
            # the supervisor attaches first; until then the server sends us away
            on_over(str(ended), False)
        except ConnectionClosed as closed:
            if closed.final:
                return on_over(str(closed), True)
        delay = MIN_DELAY_SECONDS if executor.has_joined else min(delay * 2, MAX_DELAY_SECONDS)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))
