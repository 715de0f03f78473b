"""How long an attempt was active: not while it waits without a slot, not while it is replayed."""

from __future__ import annotations

from time import perf_counter


class ActiveTime:
    """`used_ms`: in executions of the attempt before this one."""

    __slots__ = ("_since", "_used")

    def __init__(self, used_ms: int = 0) -> None:
        self._used = used_ms / 1_000
        self._since: float | None = perf_counter()

    @property
    def seconds(self) -> float:
        return self._used + (perf_counter() - self._since if self._since is not None else 0.0)

    @property
    def ms(self) -> int:
        return round(self.seconds * 1_000)

    def pause(self) -> None:
        self._used, self._since = self.seconds, None

    def go_on(self) -> bool:
        """Whether it had been paused."""
        if self._since is not None:
            return False
        self._since = perf_counter()
        return True

    def forget(self) -> None:
        """What passed since it last went on is not counted."""
        if self._since is not None:
            self._since = perf_counter()
