"""One attempt of a run, in the order its hooks are promised: parse, middleware, start, run, success or failure, complete."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Executor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

from outlast import current
from outlast.config import Config
from outlast.errors import TaskPayloadParsedError
from outlast.hooks import Hook, Kind, global_hooks
from outlast.model.failure import Failure, internal
from outlast.model.limits import MAX_OUTPUT_BYTES
from outlast.model.messages import RunPush
from outlast.tasks import Task
from outlast.worker.capture import finish_lines
from outlast.worker.failures import describe, text_of
from outlast.worker.journal import Journal
from outlast.worker.verdict import Judge

Outcome = Literal["ok", "failed", "retry", "cancelled", "timed_out", "crashed"]
Why = Literal["cancelled", "timed_out"]
STOP_SECONDS = 5.0  # what an attempt past its max_duration gets for its `finally` blocks

_UNPARSED: Any = object()


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
        super().__init__()  # not the error's text: user code makes it, and may raise
        self.error = error
        self.code = code
        self.final = final


class RunPromise:
    """What `on_cancel` may await: the output, if the function still returned one; None when it was cancelled."""

    def __init__(self, body: asyncio.Task[Any]) -> None:
        self._body = body

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.wait([self._body]).__await__()
        if self._body.cancelled():
            return None
        error = self._body.exception()
        if error is None:
            return self._body.result()
        raise error.error if isinstance(error, _Failed) else error


class AttemptRunner:
    """Runs one attempt. `stop` ends it from outside; `give_up` drops it without another word."""

    __slots__ = (
        "_began", "_body", "_context", "_given_up", "_on_cancel", "_on_stop", "_payload", "_timer", "_waited", "_waits_since", "attempt",
        "push", "setting", "stopped", "task", "thread",
    )  # fmt: skip

    def __init__(
        self,
        push: RunPush,
        task: Task[Any, Any],
        attempt: current.Attempt,
        setting: Setting,
        on_stop: Callable[[float], None] | None = None,
    ) -> None:
        self.push = push
        self.task = task
        self.attempt = attempt
        self.setting = setting
        self.stopped: Why | None = None
        self.thread: asyncio.Future[Any] | None = None  # of a `def` task
        self._payload: Any = _UNPARSED
        self._on_stop = on_stop
        self._given_up = False
        self._body: asyncio.Task[Any] | None = None
        self._on_cancel: asyncio.Task[None] | None = None
        self._context: contextvars.Context | None = None
        self._began = perf_counter()
        self._waited = 0.0  # seconds without a slot
        self._waits_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> Ended:
        """The whole attempt. Raises nothing that user code raised."""
        token = current.attempt.set(self.attempt)
        try:
            ended = await self._guarded()
        finally:
            current.attempt.reset(token)
        ended.usage_ms = self.usage_ms
        finish_lines(self.attempt)
        return ended

    @property
    def body(self) -> asyncio.Task[Any] | None:
        """The asyncio task in which the user's function runs."""
        return self._body

    @property
    def values(self) -> dict[str, Any]:
        """What hooks may ask for. Made when there is one: many attempts wait for long and have none."""
        known = {} if self._payload is _UNPARSED else {"payload": self._payload}
        return {"ctx": self.attempt.ctx, "task": self.task, **known}

    @property
    def usage_ms(self) -> int:
        """Active time: what it waited without a slot is not counted."""
        waited = self._waited + (perf_counter() - self._waits_since if self._waits_since is not None else 0)
        return round((perf_counter() - self._began - waited) * 1_000)

    def pause(self) -> None:
        """The run waits without a slot: the clock of max_duration stands still."""
        self._waits_since = perf_counter()
        if self._timer is not None:
            self._timer.cancel()

    def go_on(self) -> None:
        if self._waits_since is None:
            return
        self._waited += perf_counter() - self._waits_since
        self._waits_since = None
        self._start_timer()

    def _start_timer(self) -> None:
        limit = self._max_duration()
        if limit is not None:
            left = max(0.0, limit - self.usage_ms / 1_000)
            self._timer = asyncio.get_running_loop().call_later(left, self.stop, "timed_out")

    def stop(self, why: Why = "cancelled", grace: float = STOP_SECONDS) -> None:
        """Ask the user's code to end: CancelledError in coroutines, the signal in threads. `on_cancel` hooks begin at once."""
        if self.stopped is not None:
            return
        self.stopped = why
        self.attempt.cancelled.set()
        if isinstance(self.attempt.durable, Journal):
            self.attempt.durable.stop()
        body = self._body
        if body is not None and (self.thread is None or self.thread.done()):
            body.cancel()
        if why == "cancelled" and self._context is not None and body is not None and self._hooks("on_cancel"):
            observing = self._observe("on_cancel", run_promise=RunPromise(body))
            self._on_cancel = asyncio.get_running_loop().create_task(observing, context=self._context)
        if self._on_stop is not None:
            self._on_stop(grace)

    def give_up(self) -> None:
        """Nobody wants the end of this attempt any more; its coroutines are cancelled, a thread is left alone."""
        self._given_up = True
        self.attempt.cancelled.set()
        if self._on_cancel is not None:
            self._on_cancel.cancel()

    def ended_by_force(self) -> Ended:
        """What is reported of an attempt that did not stop in its grace."""
        return self._end_of_stop()

    # ---- around the body

    async def _guarded(self) -> Ended:
        limit = self._max_duration()
        if limit is None and self.task.kind == "async" and not self.task.hooks and not global_hooks:
            # nothing around the function: no second asyncio task is needed, the executor's own is cancelled
            self._body = asyncio.current_task()
            return await self._settle(self._call_task())
        self._context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        self._body = loop.create_task(self._through_middleware())
        self._start_timer()
        try:
            return await self._settle(self._awaited(self._body))
        finally:
            if self._timer is not None:
                self._timer.cancel()

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
            if self.stopped is not None or self._given_up:
                return await self._after_stop()
            return await self._failure(raised)
        if self.stopped is not None:
            return await self._after_stop()
        await self._observe("on_success", output=output)
        await self._observe("on_complete", result={"ok": True, "data": output})
        return Ended("ok", data, data_type)

    def _encoded(self, output: Any) -> tuple[str | None, str]:
        if output is None:
            return None, "application/json"
        try:
            data, data_type = self.task.encode_output(output)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise _Failed(error, "TASK_OUTPUT_ERROR") from error
        if data is not None and (len(data) > MAX_OUTPUT_BYTES or len(data.encode()) > MAX_OUTPUT_BYTES):
            error = ValueError(f"the output is larger than {MAX_OUTPUT_BYTES} bytes: store it elsewhere and return its address")
            raise _Failed(error, "TASK_OUTPUT_ERROR", final=True)
        return data, data_type

    # ---- the way in

    async def _through_middleware(self) -> Any:
        try:
            chain = [*global_hooks.get("middleware"), *self.task.hooks.get("middleware")]
            if not chain:
                return await self._call_task()
            self._parse()  # the payload is known to middleware too
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
        except (SystemExit, KeyboardInterrupt) as error:
            # these two leave an asyncio task through the loop itself, and would end the executor
            raise RuntimeError(f"the task raised {type(error).__name__}({error})") from error

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
        if self._payload is _UNPARSED:
            try:
                self._payload = self.task.parse_payload(self.push.payload, self.push.payload_type)
            except TaskPayloadParsedError as error:
                raise _Failed(error, final=True) from error
        return self._payload

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
        journal = self.attempt.durable
        assert journal is None or isinstance(journal, Journal)
        token = journal.enter(asyncio.current_task() if task.kind == "async" else None) if journal is not None else None
        try:
            if task.kind == "async":
                output = await task.fn(**arguments)
            else:
                output = await self._in_thread(task.fn, arguments)
            self._look_for_unused(journal)
            return output
        finally:
            if journal is not None and token is not None:
                journal.leave(token)

    def _look_for_unused(self, journal: Journal | None) -> None:
        unused = journal.unused() if journal is not None else []
        if unused:
            text = f"the function ended without asking for {len(unused)} recorded operations, first {unused[0].key} ({unused[0].location})"
            self.attempt.emit("warn", "system", text + ": it took another way than the execution before", None)

    async def _in_thread(self, fn: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        context = contextvars.copy_context()

        def call() -> Any:
            try:
                return context.run(fn, **arguments)
            except (SystemExit, KeyboardInterrupt, StopIteration) as error:
                raise RuntimeError(f"the task raised {type(error).__name__}({error})") from error

        self.thread = asyncio.get_running_loop().run_in_executor(self.setting.threads, call)
        # a thread cannot be stopped: `stop` sets the signal only, and this goes on until the function returns or the grace is over
        return await asyncio.shield(self.thread)

    # ---- the way out

    async def _failure(self, raised: BaseException) -> Ended:
        error, code, final = (raised.error, raised.code, raised.final) if isinstance(raised, _Failed) else (raised, "", False)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            error = RuntimeError(f"the task raised {type(error).__name__}({error})")
        judge = Judge(self.push, self.task, self.setting.config, is_dev=self.setting.is_dev)
        values = {**self.values, "signal": self.attempt.cancelled}
        delay, error, code = await judge.decide(error, code, final=final, values=values)
        failure = describe(error, code)
        if delay is not None:
            return Ended("retry", error=failure, retry_delay_ms=delay)
        await self._observe("on_failure", error=error)
        await self._observe("on_complete", result={"ok": False, "error": error})
        return Ended("failed", error=failure)

    async def _after_stop(self) -> Ended:
        if self._on_cancel is not None and not self._given_up:
            await asyncio.wait([self._on_cancel])
        return self._end_of_stop()

    def _end_of_stop(self) -> Ended:
        if self.stopped == "timed_out":
            text = f"the attempt took longer than max_duration, {self._max_duration()} seconds"
            return Ended("timed_out", error=internal("MAX_DURATION_EXCEEDED", text), usage_ms=self.usage_ms)
        return Ended("cancelled", usage_ms=self.usage_ms)

    async def _observe(self, kind: Kind, **values: Any) -> None:
        """Hooks that look on: what they raise is seen in the log and changes nothing."""
        for hook in self._hooks(kind):
            try:
                await hook.call({**self.values, "signal": self.attempt.cancelled, **values})
            except BaseException as error:
                if self._given_up:
                    raise
                self.attempt.emit("error", "system", f"{kind} hook {hook.name} raised {type(error).__name__}: {text_of(error)}", None)

    def _hooks(self, kind: Kind) -> list[Hook]:
        mine, all_ = self.task.hooks.get(kind), global_hooks.get(kind)
        return [*all_, *mine] if all_ else mine

    def _max_duration(self) -> float | None:
        if self.push.max_duration_off:
            return None
        if self.push.max_duration is not None:
            return self.push.max_duration
        options = self.task.options
        return options.max_duration if options.has_max_duration else self.setting.config.max_duration
