"""What the journal of a held run says to the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from outlast.model.messages import Abandoned, Blocked, Op

if TYPE_CHECKING:
    from outlast.durable import Slot
    from outlast.worker.held import Held


class Link(Protocol):
    """What the journal says to the server, through the executor."""

    def operation(self, slot: Slot, args: dict[str, Any]) -> None: ...
    def abandoned(self, key: str) -> None: ...
    def blocked(self, seen: int, unanswered: list[str]) -> None: ...
    def resumed(self) -> None: ...


class Writer(Protocol):
    """The executor, which sends what the journal says."""

    def next_number(self) -> int: ...
    def send(self, message: Op | Abandoned | Blocked) -> None: ...


class RunLink:
    __slots__ = ("_held", "_writer")

    def __init__(self, held: Held, writer: Writer) -> None:
        self._held = held
        self._writer = writer

    def operation(self, slot: Slot, args: dict[str, Any]) -> None:
        push = self._held.push
        if not self._held.abandoned:
            self._writer.send(
                Op(
                    self._writer.next_number(), push.run_id, push.epoch, push.journal, slot.key, slot.kind, slot.label, slot.fingerprint,
                    slot.location, args,
                )
            )  # fmt: skip

    def abandoned(self, key: str) -> None:
        push = self._held.push
        if not self._held.abandoned:
            self._writer.send(Abandoned(self._writer.next_number(), push.run_id, push.epoch, push.journal, key))

    def blocked(self, seen: int, unanswered: list[str]) -> None:
        push = self._held.push
        if not self._held.abandoned:
            self._writer.send(Blocked(self._writer.next_number(), push.run_id, push.epoch, push.journal, seen, unanswered))

    def resumed(self) -> None:
        if self._held.runner is not None:
            self._held.runner.go_on()
