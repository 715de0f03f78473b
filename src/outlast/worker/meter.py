"""What an attempt uses of the machine: active time, CPU time, and memory where it has a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Generator
from threading import get_ident
from time import process_time, thread_time
from typing import Any

from outlast.model.messages import RunPush
from outlast.worker.active import ActiveTime

try:
    import resource
except ImportError:  # Windows
    resource = None
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1_024  # bytes


class Meter:
    """Of a run that shares its process: the clock of the thread, read around each turn of its coroutines and its thread."""

    __slots__ = ("_begun", "_used", "active", "earlier_cpu_ms", "earlier_ms")

    def __init__(self, push: RunPush, active: ActiveTime) -> None:
        self.active = active
        self.earlier_ms = push.earlier_ms
        self.earlier_cpu_ms = push.earlier_cpu_ms
        self._used: float = push.used_cpu_ms / 1_000
        self._begun: dict[int, float] = {}  # by thread

    @property
    def seconds(self) -> float:
        return self.active.seconds

    @property
    def cpu_seconds(self) -> float:
        since = self._begun.get(get_ident())
        return self._used + (thread_time() - since if since is not None else 0.0)

    @property
    def cpu_ms(self) -> int:
        return round(self.cpu_seconds * 1_000)

    @property
    def peak_memory(self) -> int:
        """Bytes; 0: not known, since others use the process too."""
        return 0

    def begin(self) -> bool:
        """This thread works for the run from now on. False: it does already."""
        thread = get_ident()
        if thread in self._begun:
            return False
        self._begun[thread] = thread_time()
        return True

    def end(self) -> None:
        self._used += thread_time() - self._begun.pop(get_ident())

    def around(self, coroutine: Any) -> Any:
        return Metered(coroutine, self) if hasattr(coroutine, "send") else coroutine


class ProcessMeter(Meter):
    """Of a run that has the process to itself. What it takes to start is not counted."""

    __slots__ = ()

    def __init__(self, push: RunPush, active: ActiveTime) -> None:
        super().__init__(push, active)
        self._used -= process_time()

    @property
    def cpu_seconds(self) -> float:
        return self._used + process_time()

    @property
    def peak_memory(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT if resource is not None else 0

    def begin(self) -> bool:
        return False

    def around(self, coroutine: Any) -> Any:
        return coroutine


class Metered(Coroutine[Any, Any, Any]):
    """A coroutine whose turns are measured. Whoever looks into it sees the coroutine itself."""

    __slots__ = ("_coroutine", "_meter")

    def __init__(self, coroutine: Any, meter: Meter) -> None:
        self._coroutine = coroutine
        self._meter = meter

    def send(self, value: Any) -> Any:
        if not self._meter.begin():
            return self._coroutine.send(value)
        try:
            return self._coroutine.send(value)
        finally:
            self._meter.end()

    def throw(self, *error: Any) -> Any:
        if not self._meter.begin():
            return self._coroutine.throw(*error)
        try:
            return self._coroutine.throw(*error)
        finally:
            self._meter.end()

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # type: ignore[return-value]

    def __iter__(self) -> Metered:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)
