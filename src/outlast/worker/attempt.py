"""One attempt of a run, in the order its hooks are promised: parse, middleware, start, run, success or failure, complete."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from outlast import current
from outlast.errors import ContinueAs, JournalMismatch, TaskPayloadParsedError
from outlast.hooks import Hook, Kind, global_hooks, wait_of
from outlast.model.failure import internal
from outlast.model.journal import Entry
from outlast.model.limits import MAX_OUTPUT_BYTES
from outlast.model.messages import RunPush
from outlast.tasks import Task
from outlast.worker.active import ActiveTime
from outlast.worker.capture import finish_lines
from outlast.worker.ended import Ended, Failed, RunPromise, Why
from outlast.worker.failures import describe, out_of_memory, text_of
from outlast.worker.journal import Journal
from outlast.worker.meter import Meter, ProcessMeter
from outlast.worker.scopes import Scope, scope
from outlast.worker.setting import Setting
from outlast.worker.verdict import Judge

STOP_SECONDS = 5.0  # what an attempt past its max_duration gets for its `finally` blocks

_UNPARSED: Any = object()


class AttemptRunner:
    """Runs one attempt. `stop` ends it from outside; `give_up` drops it without another word."""

    __slots__ = (
        "_body", "_context", "_given_up", "_on_cancel", "_on_stop", "_payload", "_timer", "active", "attempt", "meter", "push", "setting",
        "stopped", "task", "thread",
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
        self.active = ActiveTime(push.used_ms)
        self.meter = (ProcessMeter if setting.alone else Meter)(push, self.active)
        attempt.meter = self.meter
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> Ended:
        """The whole attempt. Raises nothing that user code raised."""
        token = current.attempt.set(self.attempt)
        try:
            ended = await self._guarded()
        finally:
            current.attempt.reset(token)
        finish_lines(self.attempt)
        return self._counted(ended)

    def _counted(self, ended: Ended) -> Ended:
        ended.usage_ms, ended.cpu_ms, ended.peak_memory = self.active.ms, self.meter.cpu_ms, self.meter.peak_memory
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

    def pause(self) -> None:
        """The run waits without a slot: the clock of max_duration stands still."""
        self.active.pause()
        if self._timer is not None:
            self._timer.cancel()

    def go_on(self) -> None:
        if self.active.go_on():
            self._start_timer(self.active.seconds)

    def caught_up(self) -> None:
        """The replay is over. It had the whole of max_duration for itself, and counts nothing."""
        self.active.forget()
        if self._timer is not None:
            self._timer.cancel()
            self._start_timer(self.active.seconds)

    def _start_timer(self, used: float) -> None:
        limit = self._max_duration()
        if limit is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, limit - used), self.stop, "timed_out")

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
        return self._counted(self._end_of_stop())

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
        journal = self.attempt.durable
        replays = isinstance(journal, Journal) and journal.past.is_replaying
        self._start_timer(0.0 if replays else self.active.seconds)
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
        except ContinueAs as left:
            output = {"continued_as": left.run_id}
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
            raise Failed(error, "TASK_OUTPUT_ERROR") from error
        if data is not None and (len(data) > MAX_OUTPUT_BYTES or len(data.encode()) > MAX_OUTPUT_BYTES):
            error = ValueError(f"the output is larger than {MAX_OUTPUT_BYTES} bytes: store it elsewhere and return its address")
            raise Failed(error, "TASK_OUTPUT_ERROR", final=True)
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
                raise Failed(RuntimeError("a middleware did not await next()"), "TASK_MIDDLEWARE_ERROR")
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
                    raise error.error if isinstance(error, Failed) else error from None

            try:
                await hook.call({**self.values, "signal": self.attempt.cancelled, "next": next})
            except BaseException as error:
                if failed and (error is failed[0] or error is getattr(failed[0], "error", None)):
                    raise failed[0] from None
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise Failed(error, "TASK_MIDDLEWARE_ERROR") from error

        return call

    def _parse(self) -> Any:
        if self._payload is _UNPARSED:
            try:
                self._payload = self.task.parse_payload(self.push.payload, self.push.payload_type)
            except TaskPayloadParsedError as error:
                raise Failed(error, final=True) from error
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
        token = self._enter(journal) if journal is not None else None
        try:
            if task.kind == "async":
                output = await self.meter.around(task.fn(**arguments))
            else:
                output = await self._in_thread(task.fn, arguments)
            self._look_at_past(journal)
            return output
        finally:
            if journal is not None and token is not None:
                journal.leave(token)

    def _enter(self, journal: Journal) -> contextvars.Token[Scope | None]:
        past = journal.past
        if past.is_replaying:
            past.on_caught_up = self.caught_up
        if self.task.options.keeps_journal:
            journal.keep()
        if self._hooks("on_wait") or self._hooks("on_resume"):
            journal.around = self._around
        return journal.enter(asyncio.current_task() if self.task.kind == "async" else None)

    def _look_at_past(self, journal: Journal | None) -> None:
        """The function has returned. Did it do all that is recorded?

        Raises:
            JournalMismatch: it did something else; in production what it left out is only said.
        """
        if journal is None:
            return
        if journal.past.mismatch is not None:  # the code has caught it
            raise journal.past.mismatch
        missed = journal.past.missed()
        if missed is not None and self.setting.is_dev:
            raise missed
        if missed is not None:
            self.attempt.emit("warn", "system", str(missed), None)

    async def _around(self, kind: str, entry: Entry, args: dict[str, Any]) -> None:
        """Hooks around a wait. They are no part of the function: nothing they do is recorded."""
        token = scope.set(None)
        try:
            await self._observe("on_wait" if kind == "on_wait" else "on_resume", wait=wait_of(entry, args))
        finally:
            scope.reset(token)

    async def _in_thread(self, fn: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        context = contextvars.copy_context()

        def call() -> Any:
            began = self.meter.begin()
            try:
                return context.run(fn, **arguments)
            except (SystemExit, KeyboardInterrupt, StopIteration) as error:
                raise RuntimeError(f"the task raised {type(error).__name__}({error})") from error
            finally:
                if began:
                    self.meter.end()

        self.thread = asyncio.get_running_loop().run_in_executor(self.setting.threads, call)
        # a thread cannot be stopped: `stop` sets the signal only, and this goes on until the function returns or the grace is over
        return await asyncio.shield(self.thread)

    # ---- the way out

    async def _failure(self, raised: BaseException) -> Ended:
        error, code, final = (raised.error, raised.code, raised.final) if isinstance(raised, Failed) else (raised, "", False)
        if isinstance(self.attempt.durable, Journal) and self.attempt.durable.past.mismatch is not None:
            error, final = self.attempt.durable.past.mismatch, True  # whatever came of it
        if isinstance(error, JournalMismatch):
            if error.is_other_version:
                return Ended("parked", error=replace(describe(error), code=error.code))
            final = True
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            error = RuntimeError(f"the task raised {type(error).__name__}({error})")
        if isinstance(error, MemoryError) and self.setting.memory_bytes:
            return Ended("crashed", error=out_of_memory(self.setting.memory_bytes))
        judge = Judge(self.push, self.task, self.setting.config, is_dev=self.setting.is_dev)
        values = {**self.values, "signal": self.attempt.cancelled}
        delay, error, code = await judge.decide(error, code, final=final, values=values)
        failure = describe(error, code)
        if isinstance(error, JournalMismatch):
            failure = replace(failure, code=error.code)
        if delay is not None:
            if self.task.options.cancels_children and isinstance(self.attempt.durable, Journal):
                self.attempt.durable.leave_children()
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
            return Ended("timed_out", error=internal("MAX_DURATION_EXCEEDED", text))
        return Ended("cancelled")

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
