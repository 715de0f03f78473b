"""A run and the process it has for itself, as the supervisor sees both; and what it means when such a process dies."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from outlast.model.failure import Failure, internal
from outlast.model.messages import Done, RunPush, ToWorker, encode_frame
from outlast.worker.active import ActiveTime
from outlast.worker.control import FrameLine, TaskTerms
from outlast.worker.ended import Why
from outlast.worker.failures import out_of_memory
from outlast.worker.single import OUT_OF_MEMORY

MEGABYTES = {
    "micro": 256, "small-1x": 512, "small-2x": 1_024, "medium-1x": 2_048, "medium-2x": 4_096, "large-1x": 8_192, "large-2x": 16_384,
}  # fmt: skip
OOM_KILLED = "TASK_PROCESS_OOM_KILLED"
_CODES: dict[int, str] = {signal.SIGSEGV: "TASK_PROCESS_SIGSEGV", signal.SIGTERM: "TASK_PROCESS_SIGTERM"}


@dataclass(slots=True, eq=False)
class Child:
    """`push` without what only the code needs."""

    number: int
    push: RunPush
    terms: TaskTerms
    oom_kills: int  # of the system, when it began
    line: FrameLine | None = None
    unsent: list[ToWorker] = field(default_factory=list[ToWorker])  # until the line is there
    cooling: bool = False
    said_done: bool = False  # of this attempt
    stopping: Why | None = None
    over: bool = False  # nothing it does counts any more
    status: int | None = None  # once it has ended
    cpu_ms: int = 0  # then too
    peak_memory: int = 0
    sentence: Why | None = None  # why it is ended from outside
    retry_delay: float = 0.0  # seconds until the attempt it asked for
    active: ActiveTime = field(default_factory=ActiveTime)
    timer: asyncio.TimerHandle | None = None
    read: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.active = ActiveTime(self.push.used_ms)

    def tell(self, message: ToWorker) -> None:
        if self.over:
            return
        if self.line is None:
            self.unsent.append(message)
        else:
            self.line.put(encode_frame([message]))

    def at(self, *, epoch: int | None = None, attempt: int | None = None) -> None:
        """It goes on under another epoch, or with another attempt."""
        self.push = replace(self.push, epoch=epoch or self.push.epoch, attempt=attempt or self.push.attempt)

    def set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = timer

    @property
    def max_duration(self) -> float | None:
        """Seconds, by the run's own limit or its task's."""
        if self.push.max_duration_off:
            return None
        return self.push.max_duration if self.push.max_duration is not None else self.terms.max_duration

    def time_left(self, *, replay: bool) -> float | None:
        """Seconds of activity; a replay has the whole of max_duration for itself, beside."""
        limit = self.max_duration
        return None if limit is None else max(0.0, limit - self.active.seconds) + (limit if replay else 0.0)

    @property
    def reason(self) -> Failure | None:
        """Of its sentence, where that is an error."""
        if self.sentence != "timed_out":
            return None
        return internal("MAX_DURATION_EXCEEDED", f"the attempt took longer than max_duration, {self.max_duration} seconds")

    def done(self, n: int, outcome: Any, error: Failure | None, pause_ms: int) -> Done:
        """What is said of it in its place."""
        self.said_done = True
        p = self.push
        return Done(
            n, p.run_id, p.epoch, p.attempt, outcome, error=error, retry_delay_ms=pause_ms, usage_ms=self.active.ms,
            cpu_ms=self.cpu_ms, peak_memory=self.peak_memory,
        )  # fmt: skip

    def cause_of_death(self, *, has_limits: bool) -> Failure:
        """Once it has ended, before its run."""
        return _cause(self.status, memory_bytes=self.memory_bytes if has_limits else 0, oom_killed=oom_kills() > self.oom_kills)

    @property
    def memory_bytes(self) -> int:
        """What the run's machine has; 0 when nobody chose one."""
        if not self.terms.isolated:
            return 0
        machine = self.push.context.get("machine", {}).get("name") or self.terms.machine
        return MEGABYTES.get(machine or "", 0) << 20


def _cause(status: int | None, *, memory_bytes: int, oom_killed: bool) -> Failure:
    """Why a process ended before its run."""
    if status == OUT_OF_MEMORY or (status == -signal.SIGKILL and oom_killed):
        return out_of_memory(memory_bytes)
    if status is not None and status < 0:
        name = signal.Signals(-status).name if -status in {s.value for s in signal.Signals} else f"signal {-status}"
        code = _CODES.get(-status, "TASK_PROCESS_EXITED_WITH_NON_ZERO_CODE")
        return internal(code, f"the process of this run was ended by {name}")
    text = f"the process of this run ended with status {status} before the run was over"
    return internal("TASK_PROCESS_EXITED_WITH_NON_ZERO_CODE", text)


def oom_kills() -> int:
    """How many processes the kernel has killed for memory since the system was started; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/vmstat", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
