"""What `runs.subscribe` gives: a run at each of its changes, and with them what is in its streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from outlast.client.answers import Run
from outlast.client.live import Asking, Live
from outlast.piping import reading
from outlast.schema import Schema

if TYPE_CHECKING:
    import asyncio

    from outlast.streams import Stream

AHEAD = 100  # events that may wait for the loop that takes them


class Event(NamedTuple):
    """`type` is "run", with the run as it is now, or the name of a stream, with one chunk of it."""

    type: str
    run: Run | None = None
    chunk: Any = None


class LiveRun(Live[Run]):
    """The run at each of its changes: `async for`, or `for` under `outlast.sync`."""

    def __init__(self, run_id: str, ask: Callable[[], Asking[Run]]) -> None:
        super().__init__(ask)
        self._run_id = run_id

    def with_streams(self, *streams: Stream[Any]) -> AsyncIterator[Event]:
        """The run's changes and the chunks of all of its streams, from their beginning, as they come; ends when both have ended.

        Chunks of the streams that are given have their type, those of others are plain JSON.

        Example:
            >>> async for event in runs.subscribe(handle).with_streams(ai):  # doctest: +SKIP
            ...     print(event.run.status if event.type == "run" else event.chunk)
        """
        return _events(self, self._run_id, {stream.key: stream.schema for stream in streams})


async def _events(live: LiveRun, run_id: str, schemas: dict[str, Schema]) -> AsyncIterator[Event]:
    import asyncio

    arrived: asyncio.Queue[Event] = asyncio.Queue(AHEAD)
    tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(key: str) -> None:
        async for chunk in reading(run_id, key, schemas.get(key, _PLAIN), 0, None):
            await arrived.put(Event(key, chunk=chunk))

    async def watch() -> None:
        async for run in live:
            for key in run.streams:
                if key not in tasks:
                    tasks[key] = asyncio.get_running_loop().create_task(follow(key))
            await arrived.put(Event("run", run))

    tasks[""] = asyncio.get_running_loop().create_task(watch())
    try:
        async for event in _until_done(arrived, tasks):
            yield event
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _until_done(arrived: asyncio.Queue[Event], tasks: dict[str, asyncio.Task[None]]) -> AsyncIterator[Event]:
    """What arrives, until nobody is left who could bring something; what one of them raises is raised here."""
    import asyncio

    while True:
        while not arrived.empty():
            yield arrived.get_nowait()
        open_, done = [task for task in tasks.values() if not task.done()], [task for task in tasks.values() if task.done()]
        for task in done:
            task.result()
        if not open_ and arrived.empty():
            return
        taking = asyncio.get_running_loop().create_task(arrived.get())
        try:
            await asyncio.wait({taking, *open_}, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                yield taking.result()
        finally:
            taking.cancel()


def _nothing() -> None: ...


_PLAIN = Schema(_nothing, None)
