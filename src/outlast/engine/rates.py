"""What a claim may take of queues with a rate or a combined limit. All claims of an environment come one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from outlast.engine.operation import operation
from outlast.engine.rows import Rows
from outlast.engine.view import View
from outlast.model import rate as rates
from outlast.model.flow import RateOpens
from outlast.model.lane import Candidate
from outlast.model.run import Run
from outlast.store import rates as store
from outlast.store.rates import Control, Key

TIMER = "rate"


class Budgets:
    """What is left of rates and combined limits, shared by all lanes of a queue, or by those of one key."""

    def __init__(self, controls: Collection[Control] = ()) -> None:
        self.controls = {c.queue_id: c for c in controls}
        self.left: dict[Key, int] = {}  # combined limits stand under their queue and no key
        self.filled: dict[Key, int] = {}

    def blocked(self, view: View) -> list[int]:
        """Queues of which nothing may start now."""
        whole = [self._rate_key(c.queue_id, "") for c in self.controls.values() if c.rate is not None and not c.rate.per_key]
        self._look(view, whole)
        return [queue_id for queue_id in self.controls if min((self.left[k] for k in self._caps(view, queue_id)), default=1) <= 0]

    def capped(self, view: View, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The candidates, with the names of what they share."""
        found = list(candidates)
        keys = [self._rate_key(c.queue_id, c.key) for c in found if (x := self.controls.get(c.queue_id)) is not None and x.rate is not None]
        self._look(view, keys)
        for c in found:
            c.caps = tuple(self._caps(view, c.queue_id, c.key))
        return found

    def spend(self, view: View, started: Sequence[Run], keys: dict[int, tuple[int, str]]) -> None:
        """Runs that began; one that goes on after a wait was counted when it began. `keys`: (queue, key) of a lane."""
        counts: dict[Key, int] = {}
        for run in started:
            queue_id, key = keys[run.lane_id or 0]
            control = self.controls.get(queue_id)
            if control is not None and control.rate is not None and not run.resuming:
                name = self._rate_key(queue_id, key)
                counts[name] = counts.get(name, 0) + 1
        rows: list[tuple[int, str, int, int]] = []
        for (queue_id, key), n in sorted(counts.items()):
            rate = self.controls[queue_id].rate
            assert rate is not None
            filled_at = rates.spent(rate, self.filled.get((queue_id, key), 0), view.now, n)
            opens = rates.open_at(rate, filled_at)
            rows.append((queue_id, key, filled_at, opens))
            if opens > view.now:
                view.writes.timers.add((opens, TIMER, f"{started[0].env_id}:{queue_id}:{key}"))
        store.save(view.tx, rows)

    def _rate_key(self, queue_id: int, key: str) -> Key:
        rate = self.controls[queue_id].rate
        # a key is one of users: what all share stands under one that nobody can have
        return (queue_id, key if rate is not None and rate.per_key else "\n")

    def _look(self, view: View, keys: Iterable[Key]) -> None:
        missing = {key for key in keys if key not in self.left}
        if not missing:
            return
        self.filled.update(store.filled(view.tx, missing))
        for key in missing:
            rate = self.controls[key[0]].rate
            assert rate is not None
            self.left[key] = rates.room(rate, self.filled.get(key, 0), view.now)

    def _caps(self, view: View, queue_id: int, key: str | None = None) -> list[Key]:
        control = self.controls.get(queue_id)
        if control is None:
            return []
        caps: list[Key] = []
        if control.combined is not None:
            name = (queue_id, "\r")
            self.left.setdefault(name, control.combined - control.used)
            caps.append(name)
        if control.rate is not None and (key is not None or not control.rate.per_key):
            caps.append(self._rate_key(queue_id, key or ""))
        return caps


def _needs_nothing(_: RateOpens, __: Rows) -> None:
    return


@operation(needs=_needs_nothing)
def rate_opens(view: View, r: RateOpens) -> None:
    """Another run may start: look for one."""
    view.writes.gone_timers.add((r.due_at, TIMER, r.ref))
    view.woken.add(int(r.ref.partition(":")[0]))
