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
    found = await engine.read(lambda tx: runs.environments(tx, unknown))
    own = {run_id for run_id, env_id in found.items() if env_id == executor.session.env_id}
    executor.know(own)
    return found.keys() - own
