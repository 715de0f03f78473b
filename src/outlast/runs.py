"""`runs`: look at runs, and act on them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Unpack

from outlast import values
from outlast.client import requests
from outlast.client.answers import LogLine, Run, RunHandle
from outlast.client.calls import Flow, Pages, call, flow
from outlast.model import payload as packets
from outlast.options import TriggerOptions, body
from outlast.pending import Pending

Which = str | RunHandle[Any]


def _id(run: Which) -> str:
    return run if isinstance(run, str) else run.id


def retrieve(run: Which) -> Pending[Run]:
    """A run with its payload, output and error, by its id or handle."""
    return call("runs.retrieve(…)", requests.retrieve_run(_id(run)))


def list(
    *,
    status: str | Sequence[str] | None = None,
    task: str | Sequence[str] | None = None,
    tag: str | Sequence[str] | None = None,
    version: str | Sequence[str] | None = None,
    queue: str | Sequence[str] | None = None,
    batch: str | None = None,
    is_test: bool | None = None,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    period: str | None = None,
    page_size: int = 25,
) -> Pages[Run]:
    """Runs that match all filters, newest first; fetched page by page. Without a time it is the last seven days."""
    query: dict[str, str] = {"page[size]": str(page_size)}
    many = {"status": status, "taskIdentifier": task, "tag": tag, "version": version, "queue": queue}
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
    from outlast.tasks import wait_for

    yield from wait_for(run_id)
    return (yield requests.retrieve_run(run_id))


def logs(run: Which, *, page_size: int = 500) -> Pages[LogLine]:
    """What the run said: `logger`, `logging`, stdout and stderr, in order."""
    return Pages(lambda cursor: requests.run_logs(_id(run), int(cursor or 0), page_size))
