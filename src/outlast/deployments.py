"""`deployments`: the versions of an environment."""

from __future__ import annotations

from datetime import datetime

from outlast.client import requests
from outlast.client.answers import DeploymentState
from outlast.client.calls import Pages, call
from outlast.pending import Pending


def list(
    *,
    status: str | None = None,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    period: str | None = None,
    page_size: int = 20,
) -> Pages[DeploymentState]:
    """All that match, newest first; fetched page by page."""
    query = {"page[size]": str(page_size)}
    given = {
        "status": status,
        "from": created_from and created_from.isoformat(),
        "to": created_to and created_to.isoformat(),
        "period": period,
    }
    query |= {name: value for name, value in given.items() if value is not None}
    return Pages(lambda cursor: requests.list_deployments({**query, "page[after]": cursor} if cursor else query))


def retrieve(id: str) -> Pending[DeploymentState]:
    """By its id or its version."""
    return call("deployments.retrieve(…)", requests.retrieve_deployment(id))


def retrieve_current() -> Pending[DeploymentState]:
    """The one that new runs take.

    Raises:
        NotFound: no worker has registered code yet.
    """
    return call("deployments.retrieve_current()", requests.retrieve_deployment("current"))
