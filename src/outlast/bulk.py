"""`bulk`: cancel or replay many runs at once; the server does it, and goes on after a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from outlast.client import calls
from outlast.client import flow as requests
from outlast.client.answers import BulkAction
from outlast.client.calls import Flow, Pages, call
from outlast.errors import InvalidValue
from outlast.pending import Pending

WAIT_SECONDS = 20
Texts = str | Sequence[str] | None


def filter(
    *,
    status: Texts = None,
    task: Texts = None,
    version: Texts = None,
    tag: Texts = None,
    queue: Texts = None,
    batch: str | None = None,
    schedule: str | None = None,
    is_test: bool | None = None,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    period: str | None = None,
) -> Mapping[str, Any]:
    """Which runs are meant; all conditions must hold. Without a time it is the last seven days."""
    given: dict[str, Any] = {
        "status": status, "taskIdentifier": task, "version": version, "tag": tag, "queue": queue, "batch": batch, "schedule": schedule,
        "isTest": is_test, "period": period,
        "from": created_from.isoformat() if created_from else None, "to": created_to.isoformat() if created_to else None,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def cancel(*, filter: Mapping[str, Any] | None = None, run_ids: Sequence[str] | None = None, name: str | None = None) -> Pending[str]:
    """Cancel all runs of a `bulk.filter(…)`, or up to 500 by their ids. Gives the action's id; a run that is over counts as failed."""
    return _begin("bulk.cancel(…)", "cancel", filter, run_ids, name)


def replay(*, filter: Mapping[str, Any] | None = None, run_ids: Sequence[str] | None = None, name: str | None = None) -> Pending[str]:
    """Replay all runs of a `bulk.filter(…)`, or up to 500 by their ids; gives the action's id."""
    return _begin("bulk.replay(…)", "replay", filter, run_ids, name)


def _begin(verb: str, action: str, filter: Mapping[str, Any] | None, run_ids: Sequence[str] | None, name: str | None) -> Pending[str]:
    if (filter is None) == (run_ids is None):
        raise InvalidValue(f"{verb}: give either filter= or run_ids=")
    body: dict[str, Any] = {"action": action, **({"filter": dict(filter)} if filter is not None else {"runIds": [*(run_ids or ())]})}
    return call(verb, requests.start_bulk({**body, "name": name} if name else body))


def retrieve(action: str) -> Pending[BulkAction]:
    """How far it came."""
    return call("bulk.retrieve(…)", requests.retrieve_bulk(action, 0))


def poll(action: str) -> Pending[BulkAction]:
    """Wait until it is over, and give it."""
    return calls.flow("bulk.poll(…)", lambda: _poll(action))


def _poll(action: str) -> Flow[BulkAction]:
    while True:
        found: BulkAction = yield requests.retrieve_bulk(action, WAIT_SECONDS)
        if found.status != "PENDING":
            return found


def abort(action: str) -> Pending[str]:
    """Do no more of it; what is done stays done. Gives the id."""
    return call("bulk.abort(…)", requests.act_on_bulk(action, "/api/v1", "abort"))


def undo(action: str) -> Pending[str]:
    """Take back what it did and has not run: waiting replays are cancelled, runs cancelled before they began are replayed.

    Gives the id of the bulk action that does so.
    """
    return call("bulk.undo(…)", requests.act_on_bulk(action, "/api/outlast/v1", "undo"))


def list(*, page_size: int = 25) -> Pages[BulkAction]:
    """All bulk actions of the environment, the newest first; fetched page by page."""
    return Pages(lambda cursor: requests.list_bulk(cursor, page_size))
