"""Which runs a worker may write to: those of its own environment. Asked once for each that it was not given here."""

from __future__ import annotations

from collections.abc import Collection

from outlast.engine.engine import Engine
from outlast.server.connected import Executor
from outlast.store import runs


async def foreign(engine: Engine, executor: Executor, run_ids: Collection[str]) -> set[str]:
    """Those of other environments. An unknown run is nobody's: the engine says so."""
    unknown = {run_id for run_id in run_ids if run_id not in executor.known}
    if not unknown:
        return unknown
    env_id = executor.session.env_id
    found = await engine.read(lambda tx: runs.of_others(tx, env_id, unknown))
    executor.know(unknown - found)
    return found
