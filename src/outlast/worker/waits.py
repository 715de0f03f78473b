"""What the server says of durable operations, to the runs an executor holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from outlast.errors import Unprocessable
from outlast.model.messages import Abandoned, Awake, Blocked, Cold, Completion, Op, Recorded, Refused, Release, Resume, Side
from outlast.worker.parking import Parking, WaitLimits

if TYPE_CHECKING:
    from outlast.worker.core import ExecutorCore


class Waits:
    def __init__(self, core: ExecutorCore, limits: WaitLimits) -> None:
        self._core = core
        self.parking = Parking(core, limits)

    def handle(self, message: Recorded | Completion | Resume) -> None:
        if isinstance(message, Recorded):
            self._core.unanswered.pop(message.n)
        held = self._core.held.get(message.run_id)
        journal = held.journal if held is not None and not held.abandoned else None
        if held is None or journal is None:
            if isinstance(message, Resume):  # the coroutine is not here any more: it is replayed somewhere
                self._core.send(Release(self._core.next_number(), message.run_id, message.epoch, "not_held"))
        elif isinstance(message, Resume):
            if message.epoch > held.push.epoch:
                self.parking.remove(held)
                held.push = replace(held.push, epoch=message.epoch)
                journal.resume(message.entries)
        elif held.push.epoch == message.epoch:
            if isinstance(message, Recorded):
                journal.answered(message.entry)
            else:
                journal.arrive([message.entry])

    def suspended(self, message: Blocked) -> None:
        """The server has taken the slot back."""
        held = self._core.held.get(message.run_id)
        if held is None or held.journal is None or held.push.epoch != message.epoch:
            return
        held.journal.suspended()
        if not held.journal.is_suspended:
            return  # its code moves again already
        if held.runner is not None:
            held.runner.pause()
        if self._core.draining or self._core.replays_every_wait:
            self.parking.park(held)
        elif held.can_park:
            self.parking.add(held)

    def refused(self, message: Op | Blocked | Abandoned | Cold | Awake, refused: Refused) -> None:
        held = self._core.held.get(message.run_id)
        if held is None or held.journal is None or held.push.epoch != message.epoch:
            return
        if refused.over and refused.code != "run_cancelled":
            self._core.give_up(held)
        elif isinstance(message, Blocked):
            held.journal.unblocked(message.seen)
        elif isinstance(message, Op) and not refused.over:
            held.journal.refused(message.key, Unprocessable(refused.message, status=422))

    def answered_beside(self, message: Side, refused: Refused | None = None) -> None:
        """What was written to metadata or a stream is durable, or will never be."""
        held = self._core.held.get(message.run_id)
        if held is None or held.push.epoch != message.epoch or held.sides is None:
            return
        held.sides.answered(message.n, refused)
        if refused is not None and refused.over and refused.code != "run_cancelled":
            self._core.give_up(held)

    def park_all(self) -> None:
        for held in [h for h in self._core.held.values() if h.journal is not None and h.journal.is_suspended]:
            self.parking.park(held)
