"""What the journal of a held run says to the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from outlast.model.messages import Abandoned, Blocked, Op

if TYPE_CHECKING:
    from outlast.durable import Slot
    from outlast.worker.held import Held


class RunLink:
    def __init__(self, held: Held, send: Callable[[Op | Abandoned | Blocked], None], next_number: Callable[[], int]) -> None:
        self._held = held
        self._send = send
        self._next = next_number

    def operation(self, slot: Slot, args: dict[str, Any]) -> None:
        push = self._held.push
        if not self._held.abandoned:
            self._send(
                Op(
                    self._next(), push.run_id, push.epoch, push.journal, slot.key, slot.kind, slot.label, slot.fingerprint,
                    slot.location, args,
                )
            )  # fmt: skip

    def abandoned(self, key: str) -> None:
        push = self._held.push
        if not self._held.abandoned:
            self._send(Abandoned(self._next(), push.run_id, push.epoch, push.journal, key))

    def blocked(self, seen: int, unanswered: list[str]) -> None:
        push = self._held.push
        if not self._held.abandoned:
            self._send(Blocked(self._next(), push.run_id, push.epoch, push.journal, seen, unanswered))

    def resumed(self) -> None:
        if self._held.runner is not None:
            self._held.runner.go_on()
