"""Every error Outlast raises, as one tree.

OutlastError
├── ConfigurationError         something is set wrongly; the message says what and where
│   └── DuplicateTaskId        two tasks share an id; both places are named
├── NotBuiltYet                an option or call that comes with a later version; refused by name, never ignored
├── OutsideRunError            a call that only makes sense inside a task
├── DurableError               what durable operations refuse
│   ├── JournalMismatch        the code took another way than the execution it continues
│   │   └── JournalUnreadable  what that execution recorded cannot be read
│   ├── DuplicateKeyError      one `key=` twice in one place
│   ├── NestedDurableOpError   a durable operation inside a step
│   ├── ScopeLostError         an asyncio task without a place of its own
│   ├── TransactionRefused     a step in a transaction that cannot commit together with its run
│   ├── UndurableTimeout       a timeout of asyncio's ended a wait (in development)
│   ├── JournalTooLarge        too many durable operations in one run, or too large ones
│   └── RecursiveWaitDeadlock  a wait for a run that itself waits for this one
├── RunCancelled               the run was cancelled while its code waited
├── WaitTimedOut               what was waited for did not come in time
├── StepFailed                 a step failed after its last try
├── InvalidValue               a value that cannot travel, or an option out of range (also a ValueError)
│   ├── NotSerializableError   what a step gave cannot be recorded, and is not tried again
│   └── TaskPayloadParsedError a payload that does not fit its task's schema
├── AbortTaskRun               raised by user code: fail now, do not retry
├── SubtaskFailed              what `.unwrap()` raises when the run it waited for failed
└── ApiError                   the server's answer was an error: `status`, `headers`, `body`
    ├── ConnectionFailed       no answer at all
    ├── BatchTriggerError      a batch was not sent, or not all of it
    ├── BadRequest 400, AuthenticationFailed 401, PermissionDenied 403, NotFound 404, Conflict 409,
    └── Unprocessable 422, RateLimited 429, ServerError 5xx
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal


class OutlastError(Exception):
    """The root of the tree."""


class ConfigurationError(OutlastError):
    """Something is set wrongly; the message says what, where, and what to do."""


class DuplicateTaskId(ConfigurationError):
    """Two tasks share an id; both places are named."""


class NotBuiltYet(OutlastError):
    """An option or call that comes with a later version of Outlast."""


class OutsideRunError(OutlastError):
    """A call that only makes sense inside a task."""


class DurableError(OutlastError):
    """A durable operation that cannot be."""


class JournalMismatch(DurableError):
    """The code took another way than the execution it continues. Never retried by itself: a new attempt would repeat its children.

    When another version of the code recorded it (`is_other_version`), the run waits for a version that fits.
    """

    code = "JOURNAL_MISMATCH"

    def __init__(self, message: str, *, is_other_version: bool = False) -> None:
        super().__init__(message)
        self.is_other_version = is_other_version


class JournalUnreadable(JournalMismatch):
    """What was recorded is damaged, or was written by a newer Outlast. Never retried by itself."""

    code = "JOURNAL_UNREADABLE"


class ContinueAs(BaseException):
    """What `run.continue_as` raises once the new run is made: no error, and not for `except Exception`. `run_id` names the new run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the run goes on as {run_id}")
        self.run_id = run_id


class UndurableTimeout(DurableError):
    """A timeout of asyncio's ended a durable operation; its clock starts anew in a replay. Raised in development only."""


class DuplicateKeyError(DurableError):
    """One `key=` was used twice in one place."""


class NestedDurableOpError(DurableError):
    """A durable operation inside a step."""


class ScopeLostError(DurableError):
    """A durable operation in an asyncio task that has no place of its own in the run."""


class JournalTooLarge(DurableError):
    """Too many durable operations in one run."""


class RecursiveWaitDeadlock(DurableError):
    """A wait for a run that itself waits for this one, so that neither would ever end. Never retried."""


class TransactionRefused(DurableError):
    """`step.transaction` on a connection that cannot commit together with the run, or for a run that is another's by now."""


class RunCancelled(OutlastError):
    """The run was cancelled while its code waited."""


class WaitTimedOut(OutlastError):
    """What `.unwrap()` raises when a token was not completed in time, or the `timeout=` of a wait was over."""


class StepFailed(OutlastError):
    """A step failed after its last try. `error` says how."""

    def __init__(self, message: str, *, error: Any = None) -> None:
        super().__init__(message)
        self.error = error


class InvalidValue(OutlastError, ValueError):
    """A value that cannot travel, or an option out of its range."""


class NotSerializableError(InvalidValue):
    """What a step's function gave cannot be recorded: it is no plain data, or too large. Not tried again: the effect has happened."""


class TaskPayloadParsedError(InvalidValue):
    """A payload that does not fit its task's schema. Never retried: the same payload would not fit again."""


class AbortTaskRun(OutlastError):
    """Raise it in a task to fail now, without any further attempt."""


class SubtaskFailed(OutlastError):
    """The run that was waited for failed. `run_id`, `task_id` and `error` say which, and why."""

    def __init__(self, message: str, *, run_id: str = "", task_id: str = "", error: Any = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.task_id = task_id
        self.error = error


class ApiError(OutlastError):
    """The server answered with an error. `status` is 0 when there was no answer."""

    def __init__(self, message: str, *, status: int = 0, headers: Mapping[str, str] | None = None, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = body


class ConnectionFailed(ApiError):
    """The server could not be reached, after all retries."""


class BadRequest(ApiError):
    """400: the request's shape, a type, or a range is wrong."""


class AuthenticationFailed(ApiError):
    """401: the key is missing, wrong, expired or revoked."""


class PermissionDenied(ApiError):
    """403: the key may not do this."""


class NotFound(ApiError):
    """404: there is no such thing in this environment."""


class Conflict(ApiError):
    """409: it clashes with what is there."""


class Unprocessable(ApiError):
    """422: well-formed, and refused."""


class RateLimited(ApiError):
    """429: too many requests, after all retries."""


class ServerError(ApiError):
    """5xx: the server could not do it, after all retries."""


class BatchTriggerError(ApiError):
    """A batch could not be sent, or not all of it: `cause` is the error of the request that failed.

    `phase` is "create" when nothing was triggered, and "stream" when the first `sent_count` of the `item_count` items were;
    `batch_id` names the first batch then. `is_rate_limited`, and `retry_after_ms` where the server said it.
    """

    def __init__(self, cause: ApiError, *, batch_id: str | None, sent_count: int, item_count: int) -> None:
        done = f"{sent_count} of {item_count} items were triggered, first in {batch_id}" if batch_id else "nothing was triggered"
        super().__init__(f"{cause}; {done}", status=cause.status, headers=cause.headers, body=cause.body)
        self.cause = cause
        self.batch_id = batch_id
        self.sent_count = sent_count
        self.item_count = item_count
        self.phase: Literal["create", "stream"] = "stream" if batch_id else "create"
        self.is_rate_limited = isinstance(cause, RateLimited)
        seconds = cause.headers.get("retry-after", "")
        self.retry_after_ms = int(seconds) * 1_000 if seconds.isdecimal() else None


_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    422: Unprocessable,
    429: RateLimited,
}


def api_error(status: int, message: str, headers: Mapping[str, str], body: Any) -> ApiError:
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    return kind(f"{status} {message}", status=status, headers=headers, body=body)
