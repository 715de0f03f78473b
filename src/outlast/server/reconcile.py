"""The slots of a session against what its worker does: at each beat, since whatever is only told once may be lost.

A claim whose commit was not heard of (the connection broke during it) is delivered by nobody; a loss that could not be
written down is told by nobody again. Both leave a slot that nobody works in, of a session that lives.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from outlast.engine import attempts
from outlast.model.requests import GiveBack, Lose
from outlast.server.connected import WorkerSession
from outlast.store import lanes

if TYPE_CHECKING:
    from outlast.server.channel import Channel


async def reconcile(channel: Channel, session: WorkerSession, living: Collection[str]) -> None:
    """`living`: the executors the worker has, by name; none when it does not say. Acts on what two beats in a row have shown.

    Raises:
        DatabaseError: the database did not answer.
    """
    slots = await channel.engine.read(lambda tx: lanes.slots_of(tx, session.id))
    found = {(run_id, epoch): name for run_id, epoch, name in slots if _is_astray(session, run_id, epoch, name, living)}
    for (run_id, epoch), name in found.items():
        if (run_id, epoch) not in session.astray:
            continue
        if name in session.executors:
            item = GiveBack(run_id=run_id, epoch=epoch, reason="not_started")
            channel.later(channel.engine.submit(attempts.give_back, item))
        else:
            channel.later(channel.engine.submit(attempts.lose, Lose(run_id=run_id, epoch=epoch)))
    session.astray = set(found)


def _is_astray(session: WorkerSession, run_id: str, epoch: int, name: str, living: Collection[str]) -> bool:
    executor = session.executors.get(name)
    if executor is None:  # dead, or on its way back: only the worker knows
        return bool(living) and name not in living
    held = executor.held.get(run_id)
    return held is None or held[0] != epoch
