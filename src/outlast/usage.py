"""`usage`: what a run uses of the machine, while it runs. `runs.retrieve` tells it afterwards."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

import msgspec

from outlast import current

P = ParamSpec("P")
T = TypeVar("T")


class Compute(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds. `duration_ms` is active time, without waits and without what is between attempts; `cpu_ms` is that of the processor."""

    duration_ms: float
    cpu_ms: float


class RunCompute(msgspec.Struct, frozen=True, kw_only=True):
    """Of this attempt until now, and of all attempts of the run."""

    attempt: Compute
    total: Compute


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """`peak_memory`: bytes of the run's process at its largest; None in a process that others share (see `isolation=`)."""

    compute: RunCompute
    peak_memory: int | None


class Measured(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a function returned, and what the run used meanwhile."""

    result: T
    compute: Compute


class Meter(Protocol):
    """As the worker keeps it for an attempt."""

    @property
    def seconds(self) -> float: ...
    @property
    def cpu_seconds(self) -> float: ...
    @property
    def peak_memory(self) -> int: ...
    @property
    def earlier_ms(self) -> int: ...
    @property
    def earlier_cpu_ms(self) -> int: ...


def get_current() -> Usage:
    """What the current run has used until now.

    Raises:
        OutsideRunError: outside of a task.
    """
    meter = _meter("usage.get_current()")
    attempt = _since(meter, (0.0, 0.0))
    total = Compute(duration_ms=attempt.duration_ms + meter.earlier_ms, cpu_ms=attempt.cpu_ms + meter.earlier_cpu_ms)
    return Usage(compute=RunCompute(attempt=attempt, total=total), peak_memory=meter.peak_memory or None)


@overload
def measure(fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[Measured[T]]: ...
@overload
def measure(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Measured[T]: ...
def measure(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function and say what the run used meanwhile, in all its branches. Of an `async def` function the call is awaited.

    Raises:
        OutsideRunError: outside of a task. What the function raises passes through.
    """
    meter = _meter("usage.measure(…)")
    began = (meter.seconds, meter.cpu_seconds)
    result = fn(*args, **kwargs)
    if inspect.isawaitable(result):
        return _measured(result, meter, began)
    return Measured(result=result, compute=_since(meter, began))


async def _measured(result: Awaitable[T], meter: Meter, began: tuple[float, float]) -> Measured[T]:
    return Measured(result=await result, compute=_since(meter, began))


def _since(meter: Meter, began: tuple[float, float]) -> Compute:
    return Compute(duration_ms=(meter.seconds - began[0]) * 1_000, cpu_ms=(meter.cpu_seconds - began[1]) * 1_000)


def _meter(call: str) -> Meter:
    meter = current.required(call).meter
    assert meter is not None
    return meter
