"""How long it took until what was killed went on.

Of a killed worker or executor: from the kill to the next start of the code of each run that *executed* there, as the database's
history tells; a run that waited held no slot, lost nothing, and goes on when its wait is over. The targets are for one thing broken:
kills while connections were broken, too (partitions, resets, a restart of the database), runs whose next worker was lost before
their code began, and of an executor while another one died, too, are only in the figures of all.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.model.run import HOLDS_SLOT
from outlast.store.database import Connection
from tests.torture import ledger
from tests.torture.nemesis import Kills

EXECUTING = frozenset(execution.value for execution in HOLDS_SLOT)
RATE_SECONDS = 20.0  # before a restart, whose rate is the normal one
TOGETHER_SECONDS = 0.1  # in which all runs of one executor are written down as lost
SLOWEST = 5  # are told in full
CLAIMS = ("started", "continued")


@dataclass(frozen=True, slots=True)
class Change:
    at: float
    kind: str
    execution: str
    data: dict[str, object]


@dataclass(frozen=True, slots=True)
class Loss:
    """A run that executed where something was killed."""

    what: str
    run: str
    pids: Sequence[int]  # where it executed: its process, and those above
    at: float
    seconds: float  # until its code started again
    claims: int  # until then: more than one, and the first was in vain
    story: str

    def __str__(self) -> str:
        return f"{self.what}, {self.run} began again after {self.seconds:.2f} s: {self.story}"


class Past:
    """What the ledger and the history of events say of each run."""

    def __init__(self, folder: Path, tx: Connection) -> None:
        self.changes: dict[str, list[Change]] = defaultdict(list)
        for run, at, kind, data in tx.all("SELECT run_id, at, kind, data FROM events ORDER BY seq"):
            told = json.loads(data)
            self.changes[run].append(Change(at / 1_000, kind, told["execution"], told))
        self.starts: dict[str, list[tuple[float, list[int]]]] = defaultdict(list)  # run → when, its process and those above
        self.ends: dict[str, list[float]] = defaultdict(list)
        for line in ledger.lines(folder):
            if line["event"] == "start":
                self.starts[line["run"]].append((line["at"] / 1_000, line["pids"]))
            elif line["event"] == "end":
                self.ends[line["run"]].append(line["at"] / 1_000)

    def losses(self, what: str, at: float, pid: int) -> list[Loss]:
        found = [self._loss(what, run, at, pid) for run in self.starts]
        return [loss for loss in found if loss is not None]

    def _loss(self, what: str, run: str, at: float, pid: int) -> Loss | None:
        before = [start for start in self.starts[run] if start[0] < at]
        after = [start[0] for start in self.starts[run] if start[0] > at]
        if not before or not after or pid not in before[-1][1] or any(before[-1][0] <= end <= at for end in self.ends[run]):
            return None
        if not self._executed(run, at):
            return None
        since = [change for change in self.changes[run] if at <= change.at <= after[0]]
        if not any("worker lost" in change.kind for change in since):
            return None  # its word had left before it died
        story = ", ".join(f"{change.kind} +{change.at - at:.2f}" for change in since)
        claims = sum(1 for change in since if any(claim in change.kind for claim in CLAIMS))
        return Loss(what, run, before[-1][1], at, after[0] - at, claims, story)

    def is_alone(self, loss: Loss) -> bool:
        """No other executor died meanwhile, of a kill or of its own code: where both were all of their kind, runs wait for a new one."""
        losses = [change.at for some in self.changes.values() for change in some if "worker lost" in change.kind]
        near = [at for at in losses if loss.at - 1.0 <= at <= loss.at + loss.seconds]
        return max(near) - min(near) <= TOGETHER_SECONDS

    def _executed(self, run: str, at: float) -> bool:
        changes = self.changes[run]
        i = bisect_right([change.at for change in changes], at)
        return i > 0 and changes[i - 1].execution in EXECUTING


def recoveries(folder: Path, tx: Connection, kills: Kills, answered: list[float]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Figures by what was killed, and the stories of the slowest."""
    past = Past(folder, tx)
    figures: dict[str, dict[str, float]] = {}
    told: list[str] = []
    for what, killed in (("worker", kills.workers), ("executor", kills.executors)):
        losses = sorted((loss for at, pid in killed for loss in past.losses(f"{what} killed", at, pid)), key=lambda loss: loss.seconds)
        quiet = [x for x in losses if x.claims <= 1 and not kills.were_broken(x.at, x.pids)]
        if what == "executor":
            quiet = [x for x in quiet if past.is_alone(x)]
        for name, some in ((f"{what} killed → its runs start", quiet), (f"{what} killed → its runs start, all", losses)):
            if some:
                figures[name] = summary([loss.seconds for loss in some])
        told += [str(loss) for loss in reversed(losses[-SLOWEST:])]
    times = sorted(answered)
    # after it little or nothing is triggered: nobody waits for an answer, and the rate falls by itself
    last = times[len(times) * 99 // 100] - RATE_SECONDS if times else 0.0
    killed, restarted = ([at for at in kills.at.get(what, []) if at < last] for what in ("server killed", "database restarted"))
    waited = sorted(((seconds, at) for at in killed for seconds in _next([at], times)), reverse=True)
    told += [f"server killed, the next answer came after {seconds:.2f} s: {kills.around(at)}" for seconds, at in waited[:SLOWEST]]
    answers = {
        "server killed → next answer": [at for at in killed if kills.alone(at)],
        "server killed → next answer, all": killed,
        "database restarted → next answer": restarted,
    }
    for name, moments in answers.items():
        if found := _next(moments, times):
            figures[name] = summary(found)
    changes = sorted(change.at for some in past.changes.values() for change in some)
    if normal := [_until_normal(changes, at) for at in restarted]:
        figures["database restarted → normal rate"] = summary(normal)
    return figures, told


def _until_normal(changes: Sequence[float], at: float) -> float:
    """Until in a second half as many changes of runs are committed as in a mean second before: these numbers are noisy."""

    def count(begin: float, end: float) -> int:
        return bisect_right(changes, end) - bisect_right(changes, begin)

    normal = count(at - RATE_SECONDS, at) / RATE_SECONDS
    windows = (at + 1.0 + i * 0.25 for i in range(2_400))
    return next((end - at for end in windows if count(end - 1.0, end) >= normal / 2), 600.0)


def _next(moments: Sequence[float], times: Sequence[float]) -> list[float]:
    return [times[i] - at for at in moments if (i := bisect_right(times, at)) < len(times)]


def summary(found: Sequence[float]) -> dict[str, float]:
    ordered = sorted(found)
    return {"n": len(ordered), "p50": ordered[len(ordered) // 2], "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]}
