"""What people decided about groups of equal errors: resolved, or ignored until something."""

from __future__ import annotations

import msgspec

from outlast.store.database import Connection


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`status`: resolved (in `version`, or at once), or ignored: until a time, until so many `more` runs failed, until so many fail
    `per_hour`; none of them: for ever."""

    env_id: int
    id: str
    status: str
    at: int
    version: str | None = None
    until_at: int | None = None
    more: int | None = None
    per_hour: int | None = None
    reason: str | None = None
    decided_by: str


_NAMES = tuple(field.name for field in msgspec.structs.fields(Decision))


def listed(tx: Connection, env_id: int) -> dict[str, Decision]:
    rows = tx.all(f"SELECT {', '.join(_NAMES)} FROM error_groups WHERE env_id = :env", env=env_id)
    found = [Decision(**dict(zip(_NAMES, row, strict=True))) for row in rows]
    return {decision.id: decision for decision in found}


def save(tx: Connection, decision: Decision) -> None:
    forget(tx, decision.env_id, decision.id)
    tx.insert("error_groups", _NAMES, [msgspec.structs.astuple(decision)], expect=1)


def forget(tx: Connection, env_id: int, id: str) -> None:
    tx.execute("DELETE FROM error_groups WHERE env_id = :env AND id = :id", env=env_id, id=id)
