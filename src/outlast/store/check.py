"""The invariants that can be read from a database: what may never be true of its rows, whatever crashed, and when.

Used by `outlast db check`, the simulation and the torture. A rule is one statement that finds the rows that break it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec

from outlast.model.lifecycle import TRANSITIONS
from outlast.model.run import FAILED, FINAL, HOLDS_SLOT, Execution, Status
from outlast.store.database import Connection

MAX_SHOWN = 100  # of one rule: a broken database breaks it everywhere
PAGE = 5_000  # events read at a time


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that breaks a rule, by its id, with the columns that show it."""

    rule: str
    id: str
    found: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.id} {self.found if self.found else ''}".rstrip()


def rules() -> dict[str, str]:
    """What may not be, and the statement that finds it; from `rules.sql`."""
    text = (files("outlast.store") / "rules.sql").read_text()
    names = {"holds": HOLDS_SLOT, "final": FINAL, "failed": FAILED}
    for name, values in names.items():
        text = text.replace("{" + name + "}", "(" + ", ".join(f"'{value.value}'" for value in sorted(values)) + ")")
    made: dict[str, str] = {}
    for part in text.split("\n-- rule: ")[1:]:
        name, _, sql = part.partition("\n")
        lines = [line for line in sql.splitlines() if not line.startswith("--")]
        made[name] = "\n".join(lines).strip().removesuffix(";")
    return made


RULES = rules()


def violations(tx: Connection) -> list[Violation]:
    """What breaks a rule now. Rows only; what happened earlier is in `History`."""
    found: list[Violation] = []
    for rule, sql in RULES.items():
        found += [Violation(rule, str(row[0]), tuple(row[1:])) for row in tx.all(f"{sql} LIMIT {MAX_SHOWN}")]
    return found


def over_limit(tx: Connection) -> list[Violation]:
    """I11: lanes and environments with more slots than their limit. Not a rule: a limit may have been lowered under running runs."""
    lanes = tx.all(
        "SELECT l.id, l.used, q.name, l.key FROM lanes l JOIN queues q ON q.id = l.queue_id JOIN environments e ON e.id = q.env_id"
        " WHERE l.used > {least}(COALESCE(q.override_, q.limit_, e.limit_), e.limit_)"
    )
    environments = tx.all(
        "SELECT e.id, count(s.run_id) FROM environments e JOIN slots s ON s.env_id = e.id"
        " GROUP BY e.id, e.limit_, e.burst HAVING count(s.run_id) > e.limit_ * e.burst"
    )
    return [Violation("more slots than the limit", str(row[0]), tuple(row[1:])) for row in (*lanes, *environments)]


class _Past(msgspec.Struct):
    """What the events of a run have said so far."""

    n: int
    status: str
    execution: str
    epoch: int
    attempt: int
    completions: int = 0


class _Data(msgspec.Struct):
    status: str
    execution: str
    epoch: int
    attempt: int


_data = msgspec.json.Decoder(_Data).decode


class History:
    """I4, I5, I6: reads events in their order and remembers, so that each is looked at once."""

    def __init__(self) -> None:
        self._seq = 0
        self._runs: dict[str, _Past] = {}

    def read(self, tx: Connection) -> list[Violation]:
        """What is wrong in the events since the last call. A run whose oldest events were pruned is taken up where they begin."""
        found: list[Violation] = []
        while rows := tx.all(
            "SELECT seq, run_id, n, kind, data FROM events WHERE seq > :seq ORDER BY seq LIMIT :limit", seq=self._seq, limit=PAGE
        ):
            for seq, run_id, n, kind, data in rows:
                self._seq = seq
                found += self._event(run_id, n, kind, _data(data))
        return found

    def _event(self, run_id: str, n: int, kind: str, now: _Data) -> list[Violation]:
        ends = int(any(reason in ("completed", "failed") for reason in kind.split(", ")))
        past = self._runs.get(run_id)
        self._runs[run_id] = _Past(n, now.status, now.execution, now.epoch, now.attempt, ends + (past.completions if past else 0))
        if past is None:
            return []
        wrong: list[Violation] = []

        def say(rule: str, *shown: Any) -> None:
            wrong.append(Violation(rule, run_id, (*shown, kind)))

        if n != past.n + 1:
            say("snapshots are numbered without a gap", past.n, n)
        if Status(past.status) in FINAL and now.status != past.status:
            say("a final status never changes", past.status, now.status)
        if now.epoch < past.epoch:
            say("epochs never go back", past.epoch, now.epoch)
        if ends and past.completions:
            say("a run ends once", past.completions + ends)
        before, after = Execution(past.execution), Execution(now.execution)
        # several changes of one transaction make one event: only single ones can be held against the table
        if "," not in kind and before is not after and after not in TRANSITIONS[before]:
            say("a run moves along the table", past.execution, now.execution)
        return wrong


def whole(tx: Connection) -> list[Violation]:
    """All that can be told of a database at rest: rows, history, and the database's own check of its file."""
    found = violations(tx) + History().read(tx)
    if not tx.is_postgres:
        found += [Violation("SQLite's own integrity_check", str(row[0])) for row in tx.all("PRAGMA integrity_check") if row[0] != "ok"]
    return found
