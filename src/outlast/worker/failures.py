"""A user's exception as a Failure, whatever it is: its text may raise, or be a gigabyte, and it may contain itself."""

from __future__ import annotations

import traceback

from outlast.errors import RecursiveWaitDeadlock, Unprocessable
from outlast.model.failure import DEADLOCK, Failure, internal, truncated
from outlast.model.limits import MAX_ERROR_STACK_CHARS
from outlast.worker.redaction import redacted

MAX_CAUSES = 5
_INSIDE = ("outlast/worker/",)


def describe(error: BaseException, code: str = "") -> Failure:
    """The failure of an exception; `code` marks errors of ours (TASK_INPUT_ERROR …)."""
    code = code or (DEADLOCK if isinstance(error, RecursiveWaitDeadlock) else "")
    if code:
        message = f"{_name(error)}: {text_of(error)}"
        return truncated(Failure(type="INTERNAL_ERROR", code=code, name=code, message=message, stack=_stack(error)))
    return truncated(Failure(name=_name(error), message=text_of(error), stack=_stack(error)))


def refusal(failure: Failure) -> Exception:
    """What the code is told that asked for it."""
    return RecursiveWaitDeadlock(failure.message) if failure.code == DEADLOCK else Unprocessable(failure.message, status=422)


def out_of_memory(limit_bytes: int = 0) -> Failure:
    """Of a run whose process had too much."""
    what = (
        f"the process of this run may have {limit_bytes >> 20} MB and wanted more"
        if limit_bytes
        else "the system ended the process of this run because memory ran out"
    )
    return internal("TASK_PROCESS_OOM_KILLED", f"{what}: choose a larger machine=, or hold less at once")


def _name(error: BaseException) -> str:
    return type(error).__qualname__[:256]


def text_of(error: BaseException) -> str:
    """What an exception says, even when its `__str__` fails."""
    try:
        text = str(error)
    except BaseException:  # user code: anything may happen in __str__
        return f"<{_name(error)} whose text cannot be made>"
    return redacted(text).encode("utf-8", "replace").decode()


def _stack(error: BaseException) -> str:
    try:
        found = traceback.TracebackException.from_exception(error, limit=50, max_group_width=10, max_group_depth=5)
        _without_ours(found)
        text = ""
        for line in found.format():
            text += line
            if len(text) > MAX_ERROR_STACK_CHARS:
                break
        return redacted(text).encode("utf-8", "replace").decode()
    except BaseException:  # as above
        return f"{_name(error)}: {text_of(error)}"


def _without_ours(found: traceback.TracebackException, depth: int = 0) -> None:
    """Frames of the worker say nothing about the user's error; a long chain of causes is cut."""
    kept = [frame for frame in found.stack if not any(part in frame.filename.replace("\\", "/") for part in _INSIDE)]
    found.stack = traceback.StackSummary.from_list(kept)
    for link in (found.__cause__, found.__context__):
        if link is not None:
            if depth >= MAX_CAUSES:
                found.__cause__ = found.__context__ = None
                return
            _without_ours(link, depth + 1)
