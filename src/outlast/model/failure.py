"""Why an attempt or a run failed, in the shapes Trigger.dev's clients know."""

from __future__ import annotations

from typing import Literal

import msgspec

from outlast.model.limits import MAX_ERROR_MESSAGE_CHARS, MAX_ERROR_STACK_CHARS

DEADLOCK = "RECURSIVE_WAIT_DEADLOCK"  # of a wait that could never end
NEVER_RETRIED = frozenset(
    {
        "COULD_NOT_FIND_EXECUTOR",
        "COULD_NOT_FIND_TASK",
        "COULD_NOT_IMPORT_TASK",
        "CONFIGURED_INCORRECTLY",
        "TASK_ALREADY_RUNNING",
        "TASK_PROCESS_SIGKILL_TIMEOUT",
        "TASK_PROCESS_OOM_KILLED",
        "TASK_PROCESS_MAYBE_OOM_KILLED",
        "TASK_RUN_CANCELLED",
        "MAX_DURATION_EXCEEDED",
        "DISK_SPACE_EXCEEDED",
        "OUTDATED_SDK_VERSION",
        "TASK_RUN_HEARTBEAT_TIMEOUT",
        "TASK_DID_CONCURRENT_WAIT",
        DEADLOCK,
        "TASK_DEQUEUED_INVALID_STATE",
        "TASK_DEQUEUED_QUEUE_NOT_FOUND",
        "TASK_RUN_DEQUEUED_MAX_RETRIES",
        "BATCH_ITEM_COULD_NOT_TRIGGER",
        "PAYLOAD_TOO_LARGE",
        "UNSPECIFIED_ERROR",
    }
)


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An error as it is stored. `code` is set for INTERNAL_ERROR only, and comes from Trigger.dev's closed list."""

    type: Literal["BUILT_IN_ERROR", "CUSTOM_ERROR", "STRING_ERROR", "INTERNAL_ERROR"] = "BUILT_IN_ERROR"
    name: str = ""
    message: str = ""
    stack: str = ""
    code: str = ""


def internal(code: str, message: str = "") -> Failure:
    return Failure(type="INTERNAL_ERROR", code=code, name=code, message=message)


def truncated(failure: Failure) -> Failure:
    """The same failure within the limits: a run must end however large its error is."""
    if len(failure.message) <= MAX_ERROR_MESSAGE_CHARS and len(failure.stack) <= MAX_ERROR_STACK_CHARS and len(failure.name) <= 256:
        return failure
    return msgspec.structs.replace(
        failure,
        name=failure.name[:256],
        message=cut(failure.message, MAX_ERROR_MESSAGE_CHARS),
        stack=cut(failure.stack, MAX_ERROR_STACK_CHARS),
    )


def cut(text: str, limit: int) -> str:
    """Head and tail of a text that is too long: a stack's ends say the most."""
    if len(text) <= limit:
        return text
    half = (limit - 40) // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
