"""A worker's `done` as the engine takes it, checked: it comes from a process that runs user code."""

from __future__ import annotations

from msgspec.structs import replace

from outlast.model.failure import Failure, internal
from outlast.model.limits import MAX_OUTPUT_BYTES
from outlast.model.messages import Done
from outlast.model.refusal import Refusal
from outlast.model.result import Result, encode_failure

MAX_COUNTED = 2**48  # milliseconds or bytes: what does not fit into the database's numbers must not reach it


def result_of(done: Done) -> Result | Refusal:
    """The run must end, whatever the worker sends: what is too large becomes an error, what is malformed is refused."""
    result = _checked(done)
    if isinstance(result, Refusal):
        return result
    return replace(result, usage_ms=_counted(done.usage_ms), cpu_ms=_counted(done.cpu_ms), peak_memory=_counted(done.peak_memory))


def _counted(number: int) -> int:
    return min(max(0, number), MAX_COUNTED)


def _checked(done: Done) -> Result | Refusal:
    if done.attempt < 1 or done.epoch < 1 or done.retry_delay_ms < 0:
        return Refusal("invalid", f"attempt {done.attempt}, epoch {done.epoch} and delay {done.retry_delay_ms} are not of a run")
    if done.outcome == "ok":
        if done.error is not None:
            return Refusal("invalid", "an attempt that went well has no error")
        if done.output is not None and len(done.output.encode("utf-8", "surrogatepass")) > MAX_OUTPUT_BYTES:
            error = internal(
                "TASK_OUTPUT_ERROR", f"the output is larger than {MAX_OUTPUT_BYTES} bytes: store it elsewhere and return its address"
            )
            return _failed(done, error)
        return Result(epoch=done.epoch, attempt=done.attempt, outcome="ok", output=done.output, output_type=done.output_type)
    if done.outcome == "cancelled":
        return Result(epoch=done.epoch, attempt=done.attempt, outcome="cancelled")
    if done.error is None:
        return Refusal("invalid", "an attempt that failed has an error")
    error = done.error
    return Result(
        epoch=done.epoch,
        attempt=done.attempt,
        outcome=done.outcome,
        error=encode_failure(_clean(error)),
        error_name=error.name[:128],
        retry_delay_ms=done.retry_delay_ms,
    )


def _failed(done: Done, error: Failure) -> Result:
    return Result(epoch=done.epoch, attempt=done.attempt, outcome="failed", error=encode_failure(error), error_name=error.name)


def _clean(error: Failure) -> Failure:
    """PostgreSQL's text holds no NUL."""
    return Failure(type=error.type, name=_no_nul(error.name), message=_no_nul(error.message), stack=_no_nul(error.stack), code=error.code)


def _no_nul(text: str) -> str:
    return text.replace("\x00", "\\u0000") if "\x00" in text else text
