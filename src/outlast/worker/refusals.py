"""Writes that the server did not take: some go again a little later, a result it will not have becomes a failure."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from msgspec.structs import replace

from outlast.model.failure import internal
from outlast.model.messages import Abandoned, Awake, Blocked, Cold, Done, Op, Refused, Side

if TYPE_CHECKING:
    from outlast.worker.core import ExecutorCore

log = logging.getLogger("outlast.worker")

RESEND_SECONDS = 0.5  # a write the database could not take now goes again after this
MAX_RESENDS = 20  # of a write the server itself fails at; a database that is away is waited for without end


class Refusals:
    def __init__(self, core: ExecutorCore) -> None:
        self._core = core
        self._loop = asyncio.get_running_loop()
        self._resends: dict[int, int] = {}

    def forget(self, n: int) -> None:
        """The write was taken."""
        if self._resends:
            self._resends.pop(n, None)

    def handle(self, refused: Refused) -> None:
        core = self._core
        message = core.unanswered.get(refused.n)
        if message is None:
            return
        if not refused.over and refused.code in ("unavailable", "internal"):
            # the database is away, or the server failed: the same write again, a little later
            tries = self._resends[refused.n] = self._resends.get(refused.n, 0) + (refused.code == "internal")
            if tries < MAX_RESENDS:
                self._loop.call_later(RESEND_SECONDS, self._resend, refused.n)
                return
        if isinstance(message, Side):
            core.unanswered.pop(refused.n)
            return core.waits.answered_beside(message, refused)
        if isinstance(message, (Op, Blocked, Abandoned, Cold, Awake)):
            core.unanswered.pop(refused.n)
            return core.waits.refused(message, refused)
        log.warning("a write was refused", extra={"run_id": message.run_id, "code": refused.code, "reason": refused.message})
        if not refused.over and isinstance(message, Done) and message.output is not None:
            # the run must end, and can: without what the server does not take
            core.unanswered.pop(refused.n)
            error = internal("TASK_OUTPUT_ERROR", f"the server refused the result: {refused.message}")
            return core.send(replace(message, n=core.next_number(), outcome="failed", output=None, error=error))
        return core.answer(refused.n, None)

    def _resend(self, n: int) -> None:
        message = self._core.unanswered.get(n)
        if message is not None:
            self._core.outbox.put(message)
