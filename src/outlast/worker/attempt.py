"""One attempt of a run, in the order its hooks are promised: parse, middleware, start, run, success or failure, complete."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Literal, cast

from outlast import current
from outlast.config import Config
from outlast.errors import AbortTaskRun, ApiError, TaskPayloadParsedError
from outlast.hooks import Hook, Kind, global_hooks
from outlast.model.failure import Failure, internal
from outlast.model.messages import RunPush
from outlast.model.retry import Retry, backoff_ms
from outlast.tasks import Task
from outlast.worker.capture import finish_lines
from outlast.worker.failures import describe

Outcome = Literal["ok", "failed", "retry", "cancelled", "timed_out", "crashed"]


@dataclass(slots=True)
class Ended:
    """How an attempt ended."""

    outcome: Outcome
    output: str | None = None
    output_type: str = "application/json"
    error: Failure | None = None
    retry_delay_ms: int = 0
    usage_ms: int = 0


@dataclass(slots=True)
class Setting:
    """What attempts share in an executor."""

    config: Config
    is_dev: bool
    threads: Executor


class _Failed(Exception):
    """The task's own failure on its way through the middleware."""

    def __init__(self, error: BaseException, code: str = "", *, final: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code
        self.final = final


class AttemptRunner:
    """Runs one attempt. `cancel` stops it from outside."""

    def __init__(self, push: RunPush, task: Task[Any, Any], attempt: current.Attempt, setting: Setting) -> None:
        self.push = push
        self.task = task
        self.attempt = attempt
        self.setting = setting
        self.values: dict[str, Any] = {"ctx": attempt.ctx, "task": task}
        self._stopped: Literal["cancelled", "timed_out"] | None = None
        self._body: asyncio.Task[Any] | None = None
        self._began = perf_counter()

    async def run(self) -> Ended:
        """The whole attempt. Raises nothing that user code raised."""
        token = current.attempt.set(self.attempt)
        try:
            ended = await self._guarded()
        finally:
            current.attempt.reset(token)
        ended.usage_ms = round((perf_counter() - self._began) * 1_000)
        finish_lines(self.attempt)
        return ended

    def cancel(self, why: Literal["cancelled", "timed_out"] = "cancelled") -> None:
        """Stop the user's code: CancelledError in coroutines, the signal in threads."""
        if self._stopped is None:
            self._stopped = why
            self.attempt.cancelled.set()
            if self._body is not None:
                self._body.cancel()

    async def _guarded(self) -> Ended:
        limit = self._max_duration()
        hooks = self.task.hooks or global_hooks
        if limit is None and not hooks and self.task.kind == "async":
            # nothing around the function: no second asyncio task is needed, the executor's own is cancelled
            self._body = asyncio.current_task()
            return await self._settle(self._call_task())
        loop = asyncio.get_running_loop()
        self._body = loop.create_task(self._through_middleware())
        timer = loop.call_later(limit, self.cancel, "timed_out") if limit is not None else None
        try:
            return await self._settle(self._awaited(self._body))
        finally:
            if timer is not None:
                timer.cancel()

    async def _awaited(self, body: asyncio.Task[Any]) -> Any:
        """The body's result; the executor's own cancellation passes through to it."""
        try:
            await asyncio.wait([body])
        except asyncio.CancelledError:
            body.cancel()
            raise
        return body.result()

    async def _settle(self, work: Awaitable[Any]) -> Ended:
        try:
            output = await work
            data, data_type = self._encoded(output)
        except BaseException as raised:
            if self._stopped is not None:
                return await self._stopped_end()
            return await self._failure(raised)
        if self._stopped is not None:
            return await self._stopped_end()
        await self._observe("on_success", output=output)
        await self._observe("on_complete", result={"ok": True, "data": output})
        return Ended("ok", data, data_type)

    def _encoded(self, output: Any) -> tuple[str | None, str]:
        try:
            return self.task.encode_output(output)
        except Exception as error:
            raise _Failed(error, "TASK_OUTPUT_ERROR") from error

    # ---- the way in

    async def _through_middleware(self) -> Any:
        chain = [*global_hooks.get("middleware"), *self.task.hooks.get("middleware")]
        if not chain:
            return await self._call_task()
        # the payload is known to middleware too
        self._parse()
        result: list[Any] = []

        async def innermost() -> None:
            result.append(await self._call_task())

        call: Callable[[], Awaitable[None]] = innermost
        for hook in reversed(chain):
            call = self._wrapped(hook, call)
        await call()
        if not result:
            raise _Failed(RuntimeError("a middleware did not await next()"), "TASK_MIDDLEWARE_ERROR")
        return result[0]

    def _wrapped(self, hook: Hook, following: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            failed: list[BaseException] = []

            async def next() -> None:
                try:
                    await following()
                except BaseException as error:
                    failed.append(error)
                    raise error.error if isinstance(error, _Failed) else error from None

            try:
                await hook.call({**self.values, "signal": self.attempt.cancelled, "next": next})
            except BaseException as error:
                if failed and (error is failed[0] or error is getattr(failed[0], "error", None)):
                    raise failed[0] from None
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise _Failed(error, "TASK_MIDDLEWARE_ERROR") from error

        return call

    def _parse(self) -> Any:
        if "payload" not in self.values:
            try:
                self.values["payload"] = self.task.parse_payload(self.push.payload, self.push.payload_type)
            except TaskPayloadParsedError as error:
                raise _Failed(error, final=True) from error
        return self.values["payload"]

    async def _call_task(self) -> Any:
        payload = self._parse()
        for hook in self._hooks("on_start_attempt"):
            await hook.call({**self.values, "signal": self.attempt.cancelled})
        task = self.task
        arguments: dict[str, Any] = {}
        if task.wants_payload and not (task.payload_optional and self.push.payload is None):
            arguments["payload"] = payload
        if task.wants_ctx:
            arguments["ctx"] = self.attempt.ctx
        if task.kind == "async":
            return await task.fn(**arguments)
        return await self._in_thread(task.fn, arguments)

    async def _in_thread(self, fn: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()

        def call() -> Any:
            try:
                return context.run(fn, **arguments)
            except (SystemExit, KeyboardInterrupt, StopIteration) as error:
                raise RuntimeError(f"the task raised {type(error).__name__}({error})") from error

        # a thread cannot be stopped: a cancel sets the signal, and the slot stays until the function returns
        return await asyncio.shield(loop.run_in_executor(self.setting.threads, call))

    # ---- the way out

    async def _failure(self, raised: BaseException) -> Ended:
        error, code, final = (raised.error, raised.code, raised.final) if isinstance(raised, _Failed) else (raised, "", False)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            error = RuntimeError(f"the task raised {type(error).__name__}({error})")
        delay, error, code = await self._decide(error, code, final)
        failure = describe(error, code)
        if delay is not None:
            return Ended("retry", error=failure, retry_delay_ms=delay)
        await self._observe("on_failure", error=error)
        await self._observe("on_complete", result={"ok": False, "error": error})
        return Ended("failed", error=failure)

    async def _decide(self, error: BaseException, code: str, final: bool) -> tuple[int | None, BaseException, str]:
        """(delay until the next attempt, or None, the error, its code); the task's hook is asked first, then those of all."""
        policy = self._policy()
        delay = None if final or _is_final(error) else self._delay(policy, error)
        hooks = [*self.task.hooks.get("catch_error"), *global_hooks.get("catch_error")]
        if not hooks or final:
            return delay, error, code
        at = None if delay is None else datetime.fromtimestamp(datetime.now(UTC).timestamp() + delay / 1_000, UTC)
        values = {
            **self.values,
            "signal": self.attempt.cancelled,
            "error": error,
            "retry": policy,
            "retry_at": at,
            "retry_delay_in_ms": delay,
        }
        for hook in hooks:
            try:
                answer = await hook.call(values)
            except Exception as broken:
                return self._delay(policy, broken), broken, "HANDLE_ERROR_ERROR"
            if answer is not None:
                return self._answered(cast("dict[str, Any]", answer), delay, error, code)
        return delay, error, code

    def _answered(
        self, answer: dict[str, Any], delay: int | None, error: BaseException, code: str
    ) -> tuple[int | None, BaseException, str]:
        if isinstance(answer.get("error"), BaseException):
            error, code = answer["error"], ""
        if answer.get("skip_retrying"):
            return None, error, code
        if isinstance(answer.get("retry_at"), datetime):
            return max(0, round((answer["retry_at"].timestamp() - datetime.now(UTC).timestamp()) * 1_000)), error, code
        if answer.get("retry_delay_in_ms") is not None:
            return max(0, int(answer["retry_delay_in_ms"])), error, code
        if isinstance(answer.get("retry"), Retry):
            return self._delay(answer["retry"], error), error, code
        return delay, error, code

    def _policy(self) -> Retry | None:
        """The task's own policy replaces the project's; without any there is no retry."""
        if self.setting.is_dev and not self.setting.config.retries_in_dev and self.task.options.retry is None:
            return None
        return self.task.options.retry or self.setting.config.retries

    def _delay(self, policy: Retry | None, error: BaseException) -> int | None:
        limit = self.push.max_attempts
        if policy is None and limit is None:
            return None
        policy = policy or Retry()
        if limit is not None:
            policy = Retry(
                max_attempts=min(limit, 250),
                factor=policy.factor,
                min_timeout=policy.min_timeout,
                max_timeout=policy.max_timeout,
                randomize=policy.randomize,
            )
        # attempts lost with a worker are not counted against the limit
        counted = self.push.attempt - int(self.push.context["run"].get("losses", 0)) if limit is None else self.push.attempt
        return backoff_ms(policy, max(1, counted), random.random())

    async def _stopped_end(self) -> Ended:
        if self._stopped == "timed_out":
            text = f"the attempt took longer than max_duration, {self._max_duration()} seconds"
            return Ended("timed_out", error=internal("MAX_DURATION_EXCEEDED", text))
        await self._observe("on_cancel", run_promise=self._body)
        return Ended("cancelled")

    async def _observe(self, kind: Kind, **values: Any) -> None:
        """Hooks that look on: what they raise is seen in the log and changes nothing."""
        for hook in self._hooks(kind):
            try:
                await hook.call({**self.values, "signal": self.attempt.cancelled, **values})
            except Exception as error:
                self.attempt.emit("error", "system", f"{kind} hook {hook.name} raised {type(error).__name__}: {error}", None)

    def _hooks(self, kind: Kind) -> list[Hook]:
        return [*global_hooks.get(kind), *self.task.hooks.get(kind)]

    def _max_duration(self) -> float | None:
        if self.push.max_duration_off:
            return None
        if self.push.max_duration is not None:
            return self.push.max_duration
        options = self.task.options
        return options.max_duration if options.has_max_duration else self.setting.config.max_duration


def _is_final(error: BaseException) -> bool:
    """Errors no retry can help: asked for, or the server's own refusal of a call the task made."""
    if isinstance(error, AbortTaskRun):
        return True
    return isinstance(error, ApiError) and 400 <= error.status < 500 and error.status not in (408, 429)
