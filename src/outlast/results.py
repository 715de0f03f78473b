"""The result of a run that was waited for: look at `ok` before `output`."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from outlast.errors import SubtaskFailed, WaitTimedOut

Out = TypeVar("Out", covariant=True)


class RunError(msgspec.Struct, frozen=True):
    """Why a run failed. `code` says it of what is not the task's own error, as in JOURNAL_MISMATCH or TASK_INPUT_ERROR."""

    name: str
    message: str
    stack: str | None = None
    code: str = ""


class Result(Generic[Out]):
    """`ok`, `run_id`, `task_id`, and `output` or `error`; the wrong one of the two raises AttributeError, so `match` works.

    Example:
        >>> match result:  # doctest: +SKIP
        ...     case Result(ok=True, output=value): ...
        ...     case Result(ok=False, error=error): ...
    """

    __match_args__ = ("ok", "output")
    __slots__ = ("_value", "ok", "run_id", "task_id")

    def __init__(self, ok: bool, run_id: str, task_id: str, value: Any) -> None:
        self.ok = ok
        self.run_id = run_id
        self.task_id = task_id
        self._value = value

    @property
    def output(self) -> Out:
        if not self.ok:
            raise AttributeError(f"run {self.run_id} failed and has no output: look at .error ({self._value.message})")
        return self._value

    @property
    def error(self) -> RunError:
        if self.ok:
            raise AttributeError(f"run {self.run_id} succeeded and has no error: look at .output")
        return self._value

    def unwrap(self) -> Out:
        """The output.

        Raises:
            SubtaskFailed: the run failed after its last attempt, was cancelled, or expired.
        """
        if not self.ok:
            error: RunError = self._value
            raise SubtaskFailed(
                f"{self.task_id} ({self.run_id}) failed: {error.message}", run_id=self.run_id, task_id=self.task_id, error=error
            )
        return self._value

    def __repr__(self) -> str:
        side = f"output={self._value!r}" if self.ok else f"error={self._value!r}"
        return f"Result(ok={self.ok}, run_id={self.run_id!r}, {side})"


class TimedOut(Result[Out]):
    """What was waited for did not come in time. A run that was waited for goes on: `run_id` names it."""

    __slots__ = ()

    def unwrap(self) -> Out:
        """Raises:
        WaitTimedOut: always.
        """
        raise WaitTimedOut(self.error.message)


class BatchResult(Generic[Out]):
    """The results of a batch, in the order of its items.

    Example:
        >>> [run.output for run in result.runs if run.ok]  # doctest: +SKIP
    """

    __slots__ = ("id", "runs")

    def __init__(self, id: str, runs: list[Result[Out]]) -> None:
        self.id = id
        self.runs = runs

    def unwrap(self) -> list[Out]:
        """All outputs.

        Raises:
            SubtaskFailed, WaitTimedOut: of the first run that failed, or was not over in time.
        """
        return [run.unwrap() for run in self.runs]

    def __repr__(self) -> str:
        return f"BatchResult(id={self.id!r}, {sum(run.ok for run in self.runs)} of {len(self.runs)} ok)"
