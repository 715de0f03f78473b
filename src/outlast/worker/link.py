"""What the journal of a held run says to the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from outlast.durable import Fence
from outlast.model.messages import Abandoned, Awake, Blocked, Op

if TYPE_CHECKING:
    from outlast.durable import Slot
    from outlast.worker.held import Held
    from outlast.worker.stopping import Stopping


class Link(Protocol):
    """What the journal says to the server, through the executor."""

    def operation(self, slot: Slot, args: dict[str, Any]) -> None: ...
    def abandoned(self, key: str, cancel: bool, again: bool = False) -> None: ...
    def blocked(self, seen: int, unanswered: list[str]) -> None: ...
    def awake(self) -> None: ...
    def resumed(self) -> None: ...
    def fence(self) -> Fence: ...


class Writer(Protocol):
    """The executor, which sends what the journal says."""

    schema: str | None
    stopping: Stopping

    def next_number(self) -> int: ...
    def send(self, message: Op | Abandoned | Blocked | Awake) -> None: ...


class RunLink:
    """Of one attempt: what is left of an earlier one says nothing any more."""

    __slots__ = ("_held", "_journal", "_writer")

    def __init__(self, held: Held, writer: Writer) -> None:
        self._held = held
        self._journal = held.push.journal
        self._writer = writer

    @property
    def _is_open(self) -> bool:
        return not self._held.abandoned and self._held.push.journal == self._journal

    def operation(self, slot: Slot, args: dict[str, Any]) -> None:
        push = self._held.push
        if self._is_open:
            self._flush()
            self._writer.send(
                Op(
                    self._writer.next_number(), push.run_id, push.epoch, push.journal, slot.key, slot.kind, slot.label, slot.fingerprint,
                    slot.location, args, slot.place,
                )
            )  # fmt: skip

    def abandoned(self, key: str, cancel: bool, again: bool = False) -> None:
        push = self._held.push
        if self._is_open:
            self._writer.send(Abandoned(self._writer.next_number(), push.run_id, push.epoch, push.journal, key, cancel, again))

    def blocked(self, seen: int, unanswered: list[str]) -> None:
        push = self._held.push
        if push.cancelled:
            return self._writer.stopping.at_wait(self._held)
        if self._is_open:
            self._flush()
            runner = self._held.runner
            used = (runner.active.ms, runner.meter.cpu_ms) if runner is not None else (0, 0)
            self._writer.send(Blocked(self._writer.next_number(), push.run_id, push.epoch, push.journal, seen, unanswered, *used))

    def awake(self) -> None:
        push = self._held.push
        if self._is_open:
            self._writer.send(Awake(self._writer.next_number(), push.run_id, push.epoch))

    def _flush(self) -> None:
        """What was written beside the journal goes first."""
        if self._held.sides is not None:
            self._held.sides.send()

    def fence(self) -> Fence:
        push = self._held.push
        return Fence(push.run_id, push.epoch, self._journal, push.version, self._writer.schema)

    def resumed(self) -> None:
        if self._held.runner is not None:
            self._held.runner.go_on()
