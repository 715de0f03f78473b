"""`batch`: many runs at once, of one task or of several."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Unpack, cast, overload

from outlast import children, durable, values
from outlast.client import requests
from outlast.client.answers import BatchHandle, BatchState
from outlast.client.calls import Flow, bound, call, flow, here
from outlast.errors import ApiError, BatchTriggerError, InvalidValue
from outlast.model import payload as packets
from outlast.model.limits import MAX_BATCH_ITEMS
from outlast.options import TriggerOptions, body
from outlast.pending import Pending, PendingBatch

if TYPE_CHECKING:
    from outlast.client.connection import Connection
    from outlast.tasks import Task

In = TypeVar("In", contravariant=True)
T = TypeVar("T")
Wire = dict[str, Any]


class BatchItem(Generic[In]):
    """A payload with options of its own, and in a mixed batch its task.

    Example:
        >>> BatchItem({"x": 1}, task="other.task", delay="1h").options
        {'delay': '1h'}
    """

    @overload
    def __init__(self, payload: In, *, task: Task[In, Any] | None = None, **options: Unpack[TriggerOptions]) -> None: ...
    @overload
    def __init__(self: BatchItem[Any], payload: Any, *, task: str, **options: Unpack[TriggerOptions]) -> None: ...
    def __init__(self, payload: Any, *, task: Any = None, **options: Unpack[TriggerOptions]) -> None:
        self.payload = payload
        self.task: Any = task
        self.options = options


Items = Iterable["In | BatchItem[In]"] | AsyncIterable["In | BatchItem[In]"]


class _Encodes(Protocol):
    id: str

    def encode_payload(self, payload: Any) -> tuple[str | None, str]: ...


def trigger(items: Iterable[BatchItem[Any]] | AsyncIterable[BatchItem[Any]]) -> Pending[BatchHandle]:
    """Make a run for each item, each with its own task; 1,000 in one request.

    Raises:
        InvalidValue: an item without a task, or no item at all.
        BatchTriggerError: the server refused, or did not answer; what it says was sent is sent.
    """
    return send("batch.trigger(…)", items, None)


def trigger_and_wait(
    items: Iterable[BatchItem[Any]] | AsyncIterable[BatchItem[Any]], *, timeout: str | float | None = None
) -> PendingBatch[Any]:
    """Make a run for each item, each with its own task, and wait for all, inside a task, at most for `timeout`.

    Raises:
        InvalidValue: an item without a task, or no item at all.
        OutsideRunError: outside of a task: use trigger there.
    """
    return wait_for_all("batch.trigger_and_wait(…)", items, None, timeout)


def retrieve(batch_id: str) -> Pending[BatchState]:
    """A batch with the ids of its runs, in the order of its items."""
    return call("batch.retrieve(…)", requests.retrieve_batch(batch_id))


def send(name: str, items: Iterable[Any] | AsyncIterable[Any], task: _Encodes | str | None) -> Pending[BatchHandle]:
    """More than 1,000 items go in several requests; the handle is of the first, with the count of all."""
    inside = None if bound.get() is not None else durable.here(name)
    if inside is not None:
        return children.batch_trigger(inside, name, _wires(name, items, lambda item: _wire(item, task)))
    if isinstance(items, AsyncIterable):
        source: AsyncIterable[Any] = items
        target = bound.get()  # now: when it is awaited, the Client that asked is no longer named
        return Pending(name, lambda: _send_async(source, task, target))
    wire = [_wire(item, task) for item in items]
    if not wire:
        raise InvalidValue(f"{name}: {children.NO_ITEM}")
    return flow(name, lambda: _send(wire))


def wait_for_all(
    name: str, items: Iterable[Any] | AsyncIterable[Any], task: _Encodes | None, timeout: str | float | None
) -> PendingBatch[Any]:
    journal = durable.required(name)
    timeout_ms = durable.timeout_ms(timeout, name)
    known: dict[str, Any] = {}

    def wire(item: Any) -> Wire:
        if (found := _task_of(item, task)) is not None:
            known[found.id] = found
        return _wire(item, task)

    def decode(id: str) -> children.Decode:
        return known[id].decode_output if id in known else packets.decode

    return children.batch_trigger_and_wait(journal, name, _wires(name, items, wire), timeout_ms, decode)


def _wires(name: str, items: Iterable[Any] | AsyncIterable[Any], wire: Callable[[Any], Wire]) -> list[Wire] | AsyncIterator[Wire]:
    """What has a length is checked now; what makes its items on demand is asked for them when they are needed."""
    if isinstance(items, AsyncIterable):
        source: AsyncIterable[Any] = items
        return (wire(item) async for item in source)
    if not isinstance(items, Sized):
        return _as_async(map(wire, items))
    found = [wire(item) for item in items]
    if not found:
        raise InvalidValue(f"{name}: {children.NO_ITEM}")
    return found


async def _as_async(items: Iterator[Wire]) -> AsyncIterator[Wire]:
    for item in items:
        yield item


def _task_of(item: Any, task: Any) -> Any:
    own = item.task if isinstance(item, BatchItem) else None
    found: Any = own or task
    return None if isinstance(found, str) else found


def _send(wire: list[dict[str, Any]]) -> Flow[BatchHandle]:
    handles: list[BatchHandle] = []
    for chunk in _chunks(wire):
        try:
            handle: BatchHandle = yield requests.batch(chunk)
        except ApiError as error:
            raise _unsent(error, handles, len(wire)) from error
        handles.append(handle)
    return _joined(handles)


async def _send_async(items: AsyncIterable[Any], task: _Encodes | str | None, target: Connection | None) -> BatchHandle:
    """Items are made as they are needed: never more than one request's worth is held."""
    connection = target or here()
    handles: list[BatchHandle] = []
    chunk: list[dict[str, Any]] = []

    async def send() -> None:
        try:
            handles.append(await connection.send(requests.batch(chunk)))
        except ApiError as error:
            raise _unsent(error, handles, sum(handle.run_count for handle in handles) + len(chunk)) from error

    async for item in items:
        chunk.append(_wire(item, task))
        if len(chunk) == MAX_BATCH_ITEMS:
            await send()
            chunk = []
    if chunk:
        await send()
    if not handles:
        raise InvalidValue(f"batch_trigger: {children.NO_ITEM}")
    return _joined(handles)


def _unsent(error: ApiError, handles: list[BatchHandle], items: int) -> BatchTriggerError:
    sent = sum(handle.run_count for handle in handles)
    return BatchTriggerError(error, batch_id=handles[0].id if handles else None, sent_count=sent, item_count=items)


def _joined(handles: list[BatchHandle]) -> BatchHandle:
    first = handles[0]
    return BatchHandle(first.id, sum(handle.run_count for handle in handles), first.public_access_token)


def _wire(item: Any, task: _Encodes | str | None) -> dict[str, Any]:
    payload: Any = item
    options: TriggerOptions = {}
    own: Any = None
    if isinstance(item, BatchItem):
        found = cast("BatchItem[Any]", item)
        payload, options, own = found.payload, found.options, found.task
    target = own if own is not None else task
    if target is None:
        raise InvalidValue("an item of a mixed batch names its task: BatchItem(payload, task=…)")
    if isinstance(target, str):
        return {"task": target, **body(values.encode(payload), options)}
    return {"task": target.id, **body(target.encode_payload(payload), options)}


def _chunks(items: list[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, MAX_BATCH_ITEMS)):
        yield chunk
