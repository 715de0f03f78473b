"""The twelve mutants: small ways to be wrong, each a replacement of text that must stand in the file once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Mutant:
    name: str
    changes: tuple[tuple[str, str, str], ...]  # file, old, new
    by: Literal["simulation", "torture"] = "simulation"  # who has to notice

    def apply(self, package: Path) -> None:
        for file, old, new in self.changes:
            path = package / file
            text = path.read_text()
            assert text.count(old) >= 1, f"{self.name}: {file} has changed, mend the mutant"
            path.write_text(text.replace(old, new, 1))


MUTANTS = (
    Mutant(
        "M1 no epoch check",
        (
            ("model/lifecycle.py", "    if run.epoch != epoch:\n", "    if False:\n"),
            # an attempt's number fences as well, most of the time
            ("model/lifecycle.py", "    if run.attempt != result.attempt:\n", "    if False:\n"),
            ("store/journal.py", "WHERE id = :run AND epoch = :epoch AND journal", "WHERE id = :run AND journal"),
        ),
    ),
    Mutant(
        "M2 acknowledge before the commit",
        (
            (
                "engine/flush.py",
                "            except DatabaseError as error:\n                if error.unavailable and not error.retryable:\n",
                "            except DatabaseError as error:\n                if all(call.outcome is not None for call in calls):\n"
                "                    return Outcome()\n                if error.unavailable and not error.retryable:\n",
            ),
        ),
    ),
    Mutant(
        "M3 no request id",
        (
            (
                "engine/triggers.py",
                '    return f"{t.env_id}:{what}:{t.request_id}" if t.request_id else None\n',
                "    return None\n",
            ),
        ),
    ),
    Mutant(
        "M4 the parent is woken outside of the transaction, and sometimes not at all",
        (
            (
                "engine/view.py",
                "        if run.execution is Execution.SUSPENDED:\n            self.apply(lifecycle.resume",
                "        if run.execution is Execution.SUSPENDED and hash(entry.key) % 8:\n            self.apply(lifecycle.resume",
            ),
        ),
    ),
    Mutant(
        "M5 edges are deleted by run",
        (
            (
                "store/journal.py",
                '    tx.delete("edges", ["waitpoint_id"], [(id_,) for id_ in ids])\n',
                "    for id_ in ids:\n"
                '        tx.execute("DELETE FROM edges WHERE run_id IN (SELECT run_id FROM edges WHERE waitpoint_id = :id)", id=id_)\n',
            ),
        ),
    ),
    Mutant("M6 a worker trusts its lease for ever", (("worker/lease.py", '            return "over"\n', '            return "sure"\n'),)),
    Mutant(
        "M7 the time to live is kept when a run has started",
        (
            (
                "model/lifecycle.py",
                "        due_at=None,\n        updated_at=now,\n    )\n    if run.cancel_asked is not None:",
                "        updated_at=now,\n    )\n    if run.cancel_asked is not None:",
            ),
        ),
    ),
    Mutant(
        "M8 a cancelled run's slot is not counted down",
        (("engine/view.py", "        base.used -= 1\n", "        base.used -= 0 if run.status is Status.CANCELED else 1\n"),),
    ),
    Mutant(
        "M9 ticks without a unique key, and each server fires what it saw due",
        (
            ("store/schedules.py", "WHERE id {{in:ids}} ORDER BY id {{for_update}}", "WHERE id {{in:ids}} ORDER BY id"),
            ("store/schedules.py", "    return {row[0] for row in rows}\n", "    return set()\n"),
            ("store/schedules.py", ", or_ignore=True, expect=len(rows), otherwise=Again)", ", or_ignore=True)"),
        ),
        by="torture",  # transactions of the simulation are one after the other
    ),
    Mutant("M10 debounce moves the time earlier", (("model/lifecycle.py", "max(run.due_at, due_at)", "min(run.due_at, due_at)"),)),
    Mutant(
        "M11 a result is overwritten",
        (
            ("model/lifecycle.py", "    if run.execution is E.FINISHED:\n        code", "    if False:\n        code"),
            (
                "model/lifecycle.py",
                '    if run.execution not in HOLDS_SLOT:\n        return Refusal("stale_epoch"',
                '    if False:\n        return Refusal("stale_epoch"',
            ),
            ("engine/attempts.py", "    if run.execution is Execution.FINISHED and run.epoch", "    if False and run.epoch"),
        ),
    ),
    Mutant(
        "M12 a batch is sealed early",
        (("engine/triggers.py", "    if batch.received == batch.expected and", "    if batch.received >= batch.expected - 1 and"),),
    ),
)
