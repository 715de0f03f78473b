"""Gates and debounce keys: which run holds one, and which runs wait for a gate."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from outlast.store.database import Again, Connection

Gate = tuple[int, str]  # environment, name
DebounceKey = tuple[int, str, str]  # environment, task, key


def holders(tx: Connection, gates: Collection[Gate], *, lock: bool = False) -> dict[Gate, str]:
    """The run that holds each gate that is taken."""
    suffix = " ORDER BY name {for_update}" if lock else ""
    found: dict[Gate, str] = {}
    for env_id in sorted({gate[0] for gate in gates}):
        names = sorted(gate[1] for gate in gates if gate[0] == env_id)
        rows = tx.all("SELECT name, run_id FROM gates WHERE env_id = :env AND name {in:names}" + suffix, env=env_id, names=names)
        found.update({(env_id, row[0]): row[1] for row in rows})
    return found


def hold(tx: Connection, rows: Sequence[tuple[int, str, str, int, str | None]]) -> None:
    """(environment, gate, run, now, the holder to replace)

    Raises:
        Again: another transaction took one of the gates meanwhile.
    """
    tx.many(
        "INSERT INTO gates (env_id, name, run_id, changed_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (env_id, name) DO UPDATE SET run_id = excluded.run_id, changed_at = excluded.changed_at WHERE gates.run_id = ?",
        rows,
        expect=len(rows),
        otherwise=Again,
    )


def add_waiting(tx: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    """(environment, gate, run)"""
    tx.insert("gated", ("env_id", "name", "run_id"), rows)


def remove_waiting(tx: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    tx.delete("gated", ("env_id", "name", "run_id"), rows)


def waiting(tx: Connection, gate: Gate, limit: int) -> list[str]:
    """The runs that wait for a gate, oldest first."""
    rows = tx.all(
        "SELECT run_id FROM gated WHERE env_id = :env AND name = :name ORDER BY run_id LIMIT :limit", env=gate[0], name=gate[1], limit=limit
    )
    return [row[0] for row in rows]


def prune(tx: Connection, before: int, limit: int) -> int:
    """Forget gates whose holder ended long ago and for which nobody waits."""
    old = (
        "SELECT g.env_id, g.name FROM gates g LEFT JOIN runs r ON r.id = g.run_id WHERE g.changed_at < :before"
        " AND COALESCE(r.execution, 'FINISHED') = 'FINISHED'"
        " AND NOT EXISTS (SELECT 1 FROM gated w WHERE w.env_id = g.env_id AND w.name = g.name) LIMIT :limit"
    )
    return tx.execute(f"DELETE FROM gates WHERE (env_id, name) IN ({old})", before=before, limit=limit)


def debounced(tx: Connection, keys: Collection[DebounceKey], *, lock: bool = False) -> dict[DebounceKey, tuple[str, int]]:
    """(run, time of the first trigger) of each debounce key in use."""
    suffix = " ORDER BY key {for_update}" if lock else ""
    found: dict[DebounceKey, tuple[str, int]] = {}
    for env_id, task in sorted({(key[0], key[1]) for key in keys}):
        texts = sorted(key[2] for key in keys if key[:2] == (env_id, task))
        rows = tx.all(
            "SELECT key, run_id, first_at FROM debounce WHERE env_id = :env AND task = :task AND key {in:keys}" + suffix,
            env=env_id, task=task, keys=texts,
        )  # fmt: skip
        found.update({(env_id, task, row[0]): (row[1], row[2]) for row in rows})
    return found


def debounce(tx: Connection, rows: Sequence[tuple[int, str, str, str, int, str | None]]) -> None:
    """(environment, task, key, run, now, the run to replace)

    Raises:
        Again: another transaction took one of the keys meanwhile: its run is adopted at the next look.
    """
    tx.many(
        "INSERT INTO debounce (env_id, task, key, run_id, first_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (env_id, task, key) DO UPDATE SET run_id = excluded.run_id, first_at = excluded.first_at WHERE debounce.run_id = ?",
        rows,
        expect=len(rows),
        otherwise=Again,
    )


def prune_debounce(tx: Connection, before: int, limit: int) -> int:
    """Forget keys whose run is not delayed any more."""
    old = (
        "SELECT d.env_id, d.task, d.key FROM debounce d LEFT JOIN runs r ON r.id = d.run_id WHERE d.first_at < :before"
        " AND COALESCE(r.execution, 'FINISHED') NOT IN ('DELAYED', 'PENDING_VERSION') LIMIT :limit"
    )
    return tx.execute(f"DELETE FROM debounce WHERE (env_id, task, key) IN ({old})", before=before, limit=limit)
