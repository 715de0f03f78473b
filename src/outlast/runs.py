"""`runs`: look at runs, and act on them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Unpack
from urllib.parse import quote

from outlast import values
from outlast.client import requests
from outlast.client.answers import BatchHandle, LogLine, Run, RunHandle
from outlast.client.calls import Flow, Pages, call, flow
from outlast.client.live import Asking, Live
from outlast.client.shapes import Shape
from outlast.errors import ApiError, Conflict
from outlast.following import LiveRun
from outlast.model import payload as packets
from outlast.options import TriggerOptions, body
from outlast.pending import Pending

Which = str | RunHandle[Any]


def _id(run: Which) -> str:
    return run if isinstance(run, str) else run.id


def retrieve(run: Which) -> Pending[Run]:
    """A run with its payload, output and error, by its id or handle."""
    from outlast.tasks import retrieved

    return flow("runs.retrieve(…)", lambda: retrieved(_id(run)))


def list(
    *,
    status: str | Sequence[str] | None = None,
    task: str | Sequence[str] | None = None,
    tag: str | Sequence[str] | None = None,
    version: str | Sequence[str] | None = None,
    queue: str | Sequence[str] | None = None,
    batch: str | None = None,
    error: str | Sequence[str] | None = None,
    is_test: bool | None = None,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    period: str | None = None,
    page_size: int = 25,
) -> Pages[Run]:
    """Runs that match all filters, newest first; fetched page by page. Without a time it is the last seven days.

    `error`: groups of equal errors, as `error_…`, among the last 5,000 failures.
    """
    query: dict[str, str] = {"page[size]": str(page_size)}
    many = {"status": status, "taskIdentifier": task, "tag": tag, "version": version, "queue": queue, "error": error}
    for name, value in many.items():
        if value is not None:
            query[f"filter[{name}]"] = value if isinstance(value, str) else ",".join(value)
    if batch is not None:
        query["filter[batch]"] = batch
    if is_test is not None:
        query["filter[isTest]"] = str(is_test).lower()
    for name, at in (("from", created_from), ("to", created_to)):
        if at is not None:
            query[f"filter[createdAt][{name}]"] = str(round(at.timestamp() * 1_000))
    if period is not None:
        query["filter[createdAt][period]"] = period
    return Pages(lambda cursor: requests.list_runs({**query, "page[after]": cursor} if cursor else query))


def cancel(run: Which) -> Pending[str]:
    """Stop a run and its children; one that is over stays as it is. Gives the id."""
    return call("runs.cancel(…)", requests.cancel_run(_id(run)))


def replay(run: Which, payload: Any = ..., **overrides: Unpack[TriggerOptions]) -> Pending[RunHandle[Any]]:
    """A new run with the same payload, tags and metadata on the current version; overrides change what they name."""
    wire = body((None, packets.JSON), overrides)["options"]
    wire.pop("parentRunId", None)
    if payload is ...:
        wire.pop("payloadType", None)
    else:
        wire["payload"], wire["payloadType"] = values.encode(payload)
    return call("runs.replay(…)", requests.replay_run(_id(run), wire))


def reschedule(run: Which, *, delay: str | datetime) -> Pending[Run]:
    """Move a DELAYED run to another time.

    Raises:
        ApiError: it is not delayed any more.
    """
    return call("runs.reschedule(…)", requests.reschedule_run(_id(run), delay))


def poll(run: Which) -> Pending[Run]:
    """Wait until the run is over, and give it."""
    return flow("runs.poll(…)", lambda: _poll(_id(run)))


def _poll(run_id: str) -> Flow[Run]:
    from outlast.tasks import retrieved, wait_for

    yield from wait_for(run_id)
    return (yield from retrieved(run_id))


def subscribe(run: Which, *, skip_columns: Sequence[str] = (), stop_on_completion: bool = True) -> LiveRun:
    """The run as it is now and at each change, until it is over. `skip_columns` (payload, output, metadata …) slims it.

    `.with_streams()` gives what is in its streams as well.

    Example:
        >>> async for run in runs.subscribe(handle):  # doctest: +SKIP
        ...     print(run.status, run.metadata)
    """
    shape = Shape(f"/realtime/v1/runs/{quote(_id(run), safe='')}", _columns(skip_columns))
    return LiveRun(_id(run), lambda: _asking(shape, ends=stop_on_completion))


def subscribe_tag(tag: str | Sequence[str], *, created_at: str = "24h", skip_columns: Sequence[str] = ()) -> Live[Run]:
    """Runs that have the tag, or all of the tags, at each change; those made longer than `created_at` ago are left out. It never ends."""
    tags = tag if isinstance(tag, str) else ",".join(tag)
    shape = Shape("/realtime/v1/runs", {"tags": tags, "createdAt": created_at, **_columns(skip_columns)})
    return Live(lambda: _asking(shape))


def subscribe_batch(batch: str | BatchHandle, *, skip_columns: Sequence[str] = ()) -> Live[Run]:
    """The runs of a batch at each change. It never ends."""
    batch_id = batch if isinstance(batch, str) else batch.id
    shape = Shape(f"/realtime/v1/batches/{quote(batch_id, safe='')}", _columns(skip_columns))
    return Live(lambda: _asking(shape))


def _columns(skipped: Sequence[str]) -> dict[str, str]:
    return {"skipColumns": ",".join(skipped)} if skipped else {}


def _asking(shape: Shape, *, ends: bool = False) -> Asking[Run]:
    shape.begin_anew()
    while True:
        answer = yield shape.next()
        if isinstance(answer, Conflict):  # what it has cannot be gone on from
            shape.begin_anew()
            continue
        if isinstance(answer, ApiError):
            raise answer
        yield answer
        if ends and any(run.finished_at is not None for run in answer):
            return


def logs(run: Which, *, page_size: int = 500) -> Pages[LogLine]:
    """What the run said: `logger`, `logging`, stdout and stderr, in order."""
    return Pages(lambda cursor: requests.run_logs(_id(run), int(cursor or 0), page_size))
