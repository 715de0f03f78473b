"""What follows a failed attempt: another one, and when, or the end. Hooks are asked, then the policy decides."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from outlast.config import Config
from outlast.errors import AbortTaskRun, ApiError, JournalMismatch, RecursiveWaitDeadlock
from outlast.hooks import global_hooks
from outlast.model.limits import MAX_ATTEMPTS, MAX_FUTURE_MS
from outlast.model.messages import RunPush
from outlast.model.retry import Retry, backoff_ms
from outlast.tasks import Task


class Verdict(NamedTuple):
    """`delay_ms` until the next attempt; None: this was the last."""

    delay_ms: int | None
    error: BaseException
    code: str


class Judge:
    """Decides for one attempt."""

    def __init__(self, push: RunPush, task: Task[Any, Any], config: Config, *, is_dev: bool) -> None:
        self._push = push
        self._task = task
        self._config = config
        self._is_dev = is_dev

    async def decide(self, error: BaseException, code: str, *, final: bool, values: dict[str, Any]) -> Verdict:
        """The task's `catch_error` is asked first, then those of all tasks; the first answer counts."""
        policy = self._policy()
        delay = None if final or _is_final(error) else self._delay(policy)
        hooks = [*self._task.hooks.get("catch_error"), *global_hooks.get("catch_error")]
        if not hooks or final:
            return Verdict(delay, error, code)
        at = None if delay is None else datetime.fromtimestamp(datetime.now(UTC).timestamp() + delay / 1_000, UTC)
        asked = {**values, "error": error, "retry": policy, "retry_at": at, "retry_delay_in_ms": delay}
        for hook in hooks:
            try:
                answer = await hook.call(asked)
                if answer is not None:
                    return self._answered(answer, Verdict(delay, error, code))
            except (Exception, SystemExit, KeyboardInterrupt) as broken:
                return Verdict(self._delay(policy), broken, "HANDLE_ERROR_ERROR")
        return Verdict(delay, error, code)

    def _answered(self, answer: object, default: Verdict) -> Verdict:
        """What a hook said.

        Raises:
            TypeError, ValueError: it said something that cannot be.
        """
        if not isinstance(answer, dict):
            raise TypeError(f"catch_error must return None or a dict such as {{'skip_retrying': True}}, not {type(answer).__name__}")
        said = cast("dict[str, Any]", answer)
        unknown = set(said) - {"skip_retrying", "retry_at", "retry_delay_in_ms", "retry", "error"}
        if unknown:
            raise ValueError(f"catch_error returned {', '.join(sorted(map(str, unknown)))}: known are skip_retrying, retry_at, "
                             "retry_delay_in_ms, retry and error")  # fmt: skip
        error, code = default.error, default.code
        if isinstance(said.get("error"), BaseException):
            error, code = said["error"], ""
        if said.get("skip_retrying"):
            return Verdict(None, error, code)
        if (at := said.get("retry_at")) is not None:
            if not isinstance(at, datetime):
                raise TypeError(f"catch_error returned retry_at={at!r}: it must be a datetime")
            at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
            return Verdict(self._asked((at - datetime.now(UTC)).total_seconds() * 1_000), error, code)
        if (ms := said.get("retry_delay_in_ms")) is not None:
            return Verdict(self._asked(float(ms)), error, code)
        if (policy := said.get("retry")) is not None:
            if not isinstance(policy, Retry):
                raise TypeError(f"catch_error returned retry={policy!r}: it must be a Retry")
            return Verdict(self._delay(policy), error, code)
        return Verdict(default.delay_ms, error, code)

    def _asked(self, ms: float) -> int | None:
        """A delay the hook asked for. A limit of attempts holds all the same, or a run would try for ever."""
        limit = self._push.max_attempts
        policy = self._policy()
        most = limit if limit is not None else (policy.max_attempts if policy is not None else MAX_ATTEMPTS)
        if self._counted() >= min(most, MAX_ATTEMPTS):
            return None
        return max(0, min(MAX_FUTURE_MS, round(ms)))

    def _policy(self) -> Retry | None:
        """The task's own policy replaces the project's; without any there is no retry."""
        if self._is_dev and not self._config.retries_in_dev:
            return None
        return self._task.options.retry or self._config.retries

    def _delay(self, policy: Retry | None) -> int | None:
        return pause_ms(self._push, policy)

    def _counted(self) -> int:
        return _counted(self._push)


def pause_ms(push: RunPush, policy: Retry | None) -> int | None:
    """The pause after this attempt of a run has failed; None when it was the last."""
    limit = push.max_attempts
    if policy is None and limit is None:
        return None
    policy = policy or Retry()
    if limit is not None:
        policy = Retry(
            max_attempts=min(limit, MAX_ATTEMPTS),
            factor=policy.factor,
            min_timeout=policy.min_timeout,
            max_timeout=policy.max_timeout,
            randomize=policy.randomize,
        )
    return backoff_ms(policy, _counted(push), random.random())


def _counted(push: RunPush) -> int:
    """The attempt as the limit counts it: those lost with a worker are not counted."""
    if push.max_attempts is not None:
        return max(1, push.attempt)  # the server has added the losses to the limit
    return max(1, push.attempt - int(push.context["run"].get("losses", 0)))


def _is_final(error: BaseException) -> bool:
    """Errors no retry can help: asked for, or the server's own refusal of a call the task made."""
    if isinstance(error, (AbortTaskRun, JournalMismatch, RecursiveWaitDeadlock)):
        return True
    return isinstance(error, ApiError) and 400 <= error.status < 500 and error.status not in (408, 429)
