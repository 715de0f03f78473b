"""What a run writes beside its journal, as the SDK sees it. The worker brings it; outside a task there is none."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from outlast.model.metadata import AnyOp


class Beside(Protocol):
    """Writes are kept in order, sent together a moment later, and made once over all executions of the run."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The run's own, with what was written here; not what others wrote meanwhile."""
        ...

    def change(self, whose: str, op: AnyOp) -> None:
        """An operation on the metadata of this run (self), its parent or root."""
        ...

    def stream(self, whose: str, key: str, text: str) -> None:
        """A chunk, as JSON, for a stream of this run, its parent, its root, or the run of an id."""
        ...

    def room(self) -> Coroutine[Any, Any, None]:
        """Until not too much is under way."""
        ...

    def flushed(self) -> Coroutine[Any, Any, None]:
        """Until all that was written is durable.

        Raises:
            Unprocessable: the server refused some of it.
        """
        ...

    def block(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for it in the thread of a `def` task."""
        ...
