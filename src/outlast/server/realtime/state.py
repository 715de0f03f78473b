"""Runs as subscribers see them: read together, and shown as they were at one of their changes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from outlast.engine.engine import Engine
from outlast.model.run import Run, RunData
from outlast.store import outbox, runs
from outlast.store.database import Connection
from outlast.store.outbox import Change

Pair = tuple[Run, RunData]
READ = 200  # runs in one read


class Rows:
    """Runs by id for many subscribers at once: what is asked for while one read is under way is answered by the next."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked: dict[str, asyncio.Future[Pair | None]] = {}
        self._reading = False

    async def get(self, env_id: int, run_id: str) -> Pair | None:
        """The run as it is now, or later; None when this environment has none of this id."""
        found = await asyncio.shield(self._ask(run_id))
        return found if found is not None and found[0].env_id == env_id else None

    async def many(self, env_id: int, run_ids: Iterable[str]) -> list[Pair]:
        """In the order of the ids, without those that do not exist."""
        found = await asyncio.gather(*[self.get(env_id, run_id) for run_id in run_ids])
        return [pair for pair in found if pair is not None]

    async def changes(self, run_id: str, after_n: int, limit: int) -> list[Change]:
        """What happened to a run after its `after_n`th change, oldest first; the newest `limit` of it."""
        return await self._engine.read(lambda tx: outbox.of_run(tx, run_id, after_n, limit))

    def _ask(self, run_id: str) -> asyncio.Future[Pair | None]:
        future = self._asked.get(run_id)
        if future is None:
            future = self._asked[run_id] = asyncio.get_running_loop().create_future()
            if not self._reading:
                self._reading = True
                self._engine.spawn(self._read())
        return future

    async def _read(self) -> None:
        try:
            while self._asked:
                asked = {run_id: self._asked.pop(run_id) for run_id in list(self._asked)[:READ]}
                await self._answer(asked)
        finally:
            self._reading = False

    async def _answer(self, asked: dict[str, asyncio.Future[Pair | None]]) -> None:
        try:
            found = await self._engine.read(lambda tx: pairs(tx, asked))
        except BaseException as error:
            for future in asked.values():
                future.set_exception(error if isinstance(error, Exception) else ConnectionError("the server stops"))
                future.exception()  # whoever asked may be gone
            if not isinstance(error, Exception):
                raise
            return
        for run_id, future in asked.items():
            future.set_result(found.get(run_id))


def pairs(tx: Connection, ids: Collection[str]) -> dict[str, Pair]:
    """Runs first: one may end between the two statements, and a run that is over is never read again for its output."""
    found = runs.read(tx, ids)
    data = runs.data(tx, [run.id for run in found])
    return {run.id: (run, data[run.id] if run.is_final else _unfinished(data[run.id])) for run in found if run.id in data}


def _unfinished(data: RunData) -> RunData:
    return data if data.output is None and data.error is None else replace(data, output=None, output_type=None, error=None)


def at(pair: Pair, change: Change) -> Pair:
    """The run as it was after that change; what the change does not say is as it is now."""
    run, data = pair
    if change.n >= run.snapshot:
        return pair
    run = replace(
        run,
        status=change.status,
        execution=change.execution,
        snapshot=change.n,
        attempt=change.attempt,
        updated_at=change.at,
        started_at=run.started_at if run.started_at is not None and run.started_at <= change.at else None,
    )
    if change.is_final:
        return run, data
    return replace(run, finished_at=None), _unfinished(data)
