"""`tags`: words by which runs are found and watched."""

from __future__ import annotations

from outlast import current
from outlast.client import requests
from outlast.client.calls import call
from outlast.pending import Pending


def add(*tags: str | list[str]) -> Pending[None]:
    """Give the current run more tags; it has at most ten, each of up to 128 characters. One it has already changes nothing.

    Raises:
        OutsideRunError: outside of a task.
        Unprocessable: that would be more than ten.
    """
    run_id = current.required("tags.add(…)").ctx.run.id
    return call("tags.add(…)", requests.add_tags(run_id, [tag for some in tags for tag in ([some] if isinstance(some, str) else some)]))
