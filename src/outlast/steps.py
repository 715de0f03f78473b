"""`step`: a piece of work whose result is recorded once, and given again in a replay."""

from __future__ import annotations

import builtins
import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, overload

import msgspec

from outlast import current, durable, faults, values
from outlast.errors import AbortTaskRun, InvalidValue, NotSerializableError, OutsideRunError, StepFailed, TransactionRefused
from outlast.model.failure import Failure
from outlast.model.journal import MAX_VALUE_BYTES, Entry
from outlast.model.retry import Retry, backoff_ms
from outlast.pending import Pending
from outlast.results import RunError
from outlast.schema import read_result

R = TypeVar("R")
MAX_NAME_CHARS = 256


class Step:
    """`await step("charge", charge, amount)`: positional arguments go to the function, keywords to the step."""

    @overload
    def __call__(
        self, name: str, fn: Callable[..., Awaitable[R]], *args: Any, retries: Retry | int | None = None, timeout: float | None = None,
        key: str | None = None, scope: Literal["run", "attempt"] = "run",
    ) -> Pending[R]: ...  # fmt: skip
    @overload
    def __call__(
        self, name: str, fn: Callable[..., R], *args: Any, retries: Retry | int | None = None, timeout: float | None = None,
        key: str | None = None, scope: Literal["run", "attempt"] = "run",
    ) -> Pending[R]: ...  # fmt: skip
    def __call__(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        retries: Retry | int | None = None,
        timeout: float | None = None,
        key: str | None = None,
        scope: Literal["run", "attempt"] = "run",
    ) -> Pending[Any]:
        """Run a function once and record what it gives; at least once when a worker dies in the middle of it.

        `def` functions run in a thread. `timeout` is seconds per try. The result is what a replay would see: decoded anew,
        by the function's return annotation if it has one. `scope="attempt"`: a retry of the task runs it again.

        Raises:
            StepFailed: it failed after its last try; builtin errors and AbortTaskRun are raised as themselves, live and in a replay.
            NotSerializableError: its result is no plain data, or too large; it is not tried again, since its effect has happened.
            InvalidValue: a name that cannot be.
            JournalMismatch: another execution had other arguments here.
            OutsideRunError: outside of a task.
        """
        call = f"step({name!r}, …)"
        here = durable.required(call)
        slot = here.slot("step", checked_name(name), key, durable.fingerprint([list(args), scope]), call)
        work = _Work(here, slot, fn, args, _policy(retries), timeout, scope)
        return Pending(call, work.run, lambda: here.block(work.run))

    def transaction(
        self,
        name: str,
        session: Any,
        fn: Callable[..., Any],
        *args: Any,
        retries: Retry | int | None = None,
        key: str | None = None,
        scope: Literal["run", "attempt"] = "run",
    ) -> Pending[Any]:
        """Run `fn(session, *args)`, record its result and commit, all in one transaction: it happens once, whatever crashes.

        `session`: of SQLAlchemy (blocking or not), or a connection of psycopg, on the server's own PostgreSQL. What it holds
        already is committed too; `fn` must not commit by itself. With a blocking session `fn` runs in a thread.

        Raises:
            TransactionRefused: another database, SQLite, a connection that commits by itself, or the run is another's by now.
            StepFailed, InvalidValue, JournalMismatch, OutsideRunError: as a step does.
        """
        call = f"step.transaction({name!r}, …)"
        here = durable.required(call)
        slot = here.slot("step", checked_name(name), key, durable.fingerprint([list(args), scope]), call)
        work = _InTransaction(here, slot, fn, args, _policy(retries), None, scope)
        work.call, work.session = call, session
        return Pending(call, work.run, lambda: here.block(work.run))

    @property
    def idempotency_key(self) -> str:
        """Inside a step: the same for every try of it, whatever crashes; give it to the service you call.

        Raises:
            OutsideRunError: outside of a step.
        """
        key = durable.in_step.get()
        if key is None:
            raise OutsideRunError("step.idempotency_key only exists inside the function of a step")
        return key


step = Step()


class _Work:
    def __init__(
        self,
        here: durable.Durable,
        slot: durable.Slot,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        retry: Retry,
        timeout: float | None,
        scope: Literal["run", "attempt"],
    ) -> None:
        self.here, self.slot, self.fn, self.args, self.retry, self.timeout, self.scope = here, slot, fn, args, retry, timeout, scope

    async def run(self) -> Any:
        known = self.here.entry(self.slot)
        if known is not None and known.seq is None and self.scope == "attempt" and known.kind == "step":
            known = None  # of an earlier attempt
        args = {"value": known.value, "value_type": known.value_type, "status": known.status} if known else await self._made()
        return self._given(await self.here.perform(self.slot, args))

    async def _made(self) -> dict[str, Any]:
        """What the function gave, or the error of its last try."""
        import asyncio
        import random

        await self.here.settled()
        attempt, loop = 1, asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                data, data_type = self._encoded(await self._once())
            except (asyncio.CancelledError, OutsideRunError, TransactionRefused):
                raise
            except Exception as error:
                delay = (
                    None if isinstance(error, (AbortTaskRun, NotSerializableError)) else backoff_ms(self.retry, attempt, random.random())
                )
                if delay is None:
                    name = type(error).__name__
                    took = round((loop.time() - began) * 1_000)
                    return {
                        "took_ms": took,
                        "status": "error",
                        "value": msgspec.json.encode(Failure(name=name, message=str(error)[:10_000])).decode(),
                    }
                said = current.attempt.get()
                if said is not None:
                    said.emit("warn", "system", f"step {self.slot.label!r} failed and is tried again in {delay} ms: {error}", None)
                await asyncio.sleep(delay / 1_000)
                attempt += 1
            else:
                return {"value": data, "value_type": data_type, "took_ms": round((loop.time() - began) * 1_000)}

    def _encoded(self, made: Any) -> tuple[str | None, str]:
        """Raises:
        NotSerializableError: it cannot be recorded.
        """
        try:
            data, data_type = values.encode(made)
        except InvalidValue as error:
            raise NotSerializableError(f"the result of step {self.slot.label!r} cannot be recorded: {error}") from error
        if data is not None and (len(data) > MAX_VALUE_BYTES or len(data.encode()) > MAX_VALUE_BYTES):
            text = f"the result of step {self.slot.label!r} is larger than {MAX_VALUE_BYTES} bytes"
            raise NotSerializableError(f"{text}: store it elsewhere and return its address")
        return data, data_type

    async def _once(self) -> Any:
        import asyncio

        token = durable.in_step.set(hashlib.sha256(f"{self.here.run_id}:{self.slot.key}".encode()).hexdigest())
        try:
            is_async = inspect.iscoroutinefunction(self.fn)
            work = self.fn(*self.args) if is_async else asyncio.to_thread(self.fn, *self.args)
            if self.timeout is None:
                made = await work
            else:
                async with asyncio.timeout(self.timeout):
                    made = await work
            made = await made if inspect.isawaitable(made) else made
            faults.point("step.after_effect")
            return made
        finally:
            durable.in_step.reset(token)

    def _given(self, entry: Entry) -> Any:
        if entry.status == "error":
            raise _error(self.slot.label, durable.failure(entry))
        return read_result(self.fn, entry.value, entry.value_type or "application/json")


class _InTransaction(_Work):
    call: str
    session: Any

    async def _once(self) -> Any:
        from outlast.integrations.transactions import Transaction

        token = durable.in_step.set(hashlib.sha256(f"{self.here.run_id}:{self.slot.key}".encode()).hexdigest())
        try:
            return await Transaction(self.call, self.session, self.here.fence(), self.slot, self._encoded).run(self.fn, self.args)
        finally:
            durable.in_step.reset(token)


def checked_name(name: str) -> str:
    is_text = name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)
    if not name or len(name) > MAX_NAME_CHARS or "\x00" in name or not is_text:
        raise InvalidValue(f"a step's name has 1 to {MAX_NAME_CHARS} characters of text, and {name[:40]!r} has {len(name)}")
    return name


@functools.cache
def _policy(retries: Retry | int | None) -> Retry:
    if isinstance(retries, Retry):
        return retries
    return Retry(max_attempts=1 + (retries or 0))


def _error(label: str, failure: Failure) -> Exception:
    """The same class live and in a replay: a builtin error is itself, others are a StepFailed that names them."""
    if failure.name == "AbortTaskRun":
        return AbortTaskRun(failure.message)
    if failure.name == "NotSerializableError":
        return NotSerializableError(failure.message)
    kind = getattr(builtins, failure.name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (UnicodeError, StopIteration, StopAsyncIteration)):
        return kind(failure.message)
    return StepFailed(
        f"step {label!r} failed: {failure.name}: {failure.message}", error=RunError(failure.name, failure.message, failure.stack or None)
    )
