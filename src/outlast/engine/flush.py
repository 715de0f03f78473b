"""A flush: load and lock, fold, write, claim, commit. One transaction for everything that waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random

import msgspec

from outlast import faults
from outlast.engine.catalog import Catalog
from outlast.engine.claim import Claimed, Claims, Demand, add_data, claim
from outlast.engine.clock import Clock
from outlast.engine.handoff import hand_off
from outlast.engine.load import load
from outlast.engine.operation import Call
from outlast.engine.rows import NeedsLock, Rows
from outlast.engine.view import Pushed, Told, View
from outlast.engine.write import write
from outlast.store import events
from outlast.store.database import Again, Database, DatabaseError

log = logging.getLogger("outlast.engine")

MAX_HINT_CHARS = 7_900  # what PostgreSQL carries; who misses a hint finds out by polling
RERUNS = 3  # with wider locks, or after a deadlock; then the items go one by one
_jitter = Random()


class Outcome(msgspec.Struct):
    """What a flush did, for those who must hear of it after the commit."""

    claimed: list[Claimed] = []
    told: list[Told] = []
    pushed: list[Pushed] = []
    finished: set[str] = set()
    woken: set[int] = set()  # environments in which something may be claimable still
    catalog_changed: bool = False
    changed: bool = False  # a run did: the outbox has something new
    has_work: bool = False
    topics: set[tuple[int, str]] = set()  # (environment, topic) of what is no run

    def add(self, other: Outcome) -> None:
        self.claimed += other.claimed
        self.told += other.told
        self.pushed += other.pushed
        self.finished |= other.finished
        self.woken |= other.woken
        self.catalog_changed |= other.catalog_changed
        self.changed |= other.changed
        self.has_work |= other.has_work
        self.topics |= other.topics


@dataclass(slots=True)
class Flusher:
    """Runs flushes over one database. Not for two threads at once."""

    database: Database
    catalog: Catalog
    clock: Clock
    new_id: Callable[[str, int], str]
    pause: Callable[[float], None]  # between reruns, in seconds
    connected: Callable[[], Collection[str]]  # sessions of workers that this server speaks with
    server: str  # who sends a hint, so that it does not listen to itself

    def flush(self, calls: Sequence[Call], demands: Callable[[], Sequence[Demand]], *, look: bool = True) -> Outcome:
        """Decide all calls and claim, if they made something claimable or `look` says so.

        Each call gets its outcome or its error; an error of one never reaches another.
        """
        try:
            left = self._alone(calls)
        except DatabaseError:
            left = calls  # a whole flush finds out what it was
        if calls and not left and not look:
            return Outcome()
        calls, wants, rerun = left, Rows(), 0
        while rerun <= RERUNS:
            try:
                return self._once(calls, demands(), wants, look)
            except NeedsLock as needed:
                is_more = wants.add(needed.rows)
                # one operation may find the rows of many runs one after the other: what it finds anew is no sign that they move
                rerun += len(calls) != 1 or not is_more
            except Again:
                rerun += 1
            except DatabaseError as error:
                if error.unavailable and not error.retryable:
                    return self._refuse(calls, error)
                if not error.retryable:
                    return self._bisect(calls, demands, error)
                if rerun == RERUNS:
                    return self._refuse(calls, error)
                rerun += 1
                self.pause(_jitter.uniform(0.001, 0.02) * rerun)
            except Exception as error:
                return self._bisect(calls, demands, error)
        if len(calls) == 1:
            log.warning("the rows of an operation kept moving", extra={"operation": calls[0].operation.name})
            return self._refuse(calls, DatabaseError("the rows of this operation kept moving", retryable=True))
        return self._halves(calls, demands)

    def _alone(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Calls that hardly more than one statement can do; the others are left for a whole flush."""
        alone = calls[0].operation.alone if calls else None
        if alone is None or any(call.operation.alone is not alone for call in calls):
            return calls
        if (append := alone([call.item for call in calls])) is None:
            return calls
        with self.database.single() as tx:
            answer = append(tx)
        for call, outcome in zip(calls, answer(), strict=True):
            call.outcome = outcome
        if faults.hook is not None:
            faults.at_commit("after_commit", [call.operation.name for call in calls if call.outcome is not None])
        return [call for call in calls if call.outcome is None]

    def _once(self, calls: Sequence[Call], demands: Sequence[Demand], more: Rows, look: bool) -> Outcome:
        self.catalog.begin()
        try:
            return self._transaction(calls, demands, more, look)
        except BaseException:
            self.catalog.roll_back()
            raise

    def _transaction(self, calls: Sequence[Call], demands: Sequence[Demand], more: Rows, look: bool) -> Outcome:
        with self.database.transaction() as tx:
            view = View(tx, self.catalog, clock=self.clock, new_id=self.new_id, connected=self.connected())
            wants = Rows()
            wants.add(more)
            for call in calls:
                call.operation.needs(call.item, wants)
            load(view, self._placed(view, calls, wants))
            view.locked()
            for call in calls:
                call.outcome = call.operation.decide(view, call.item)
            view.data.update(view.writes.born)
            claims = Claims()
            # something older may be claimable, and goes first
            hand_off(view, [] if look else demands, claims)
            has_work = bool(view.writes.work)
            write(view)
            if demands and (look or view.woken):
                claim(view, demands, claims)
            if view.writes.changed:
                write(view)
            events.append(tx, view.events.values())
            if tx.is_postgres:
                self._notify(view)
            add_data(view, claims)
            self._fault("before_commit", calls, claims)
        self._fault("after_commit", calls, claims)
        for key, ids in view.new_lanes.items():
            self.catalog.remember_lane(key, ids)
        for key, lane_id in view.lane_ids.items():
            if self.catalog.lane(key) is None:
                self.catalog.remember_lane(key, (lane_id, view.lanes[lane_id].base_id))
        woken = (view.woken - claims.looked) | claims.more
        changed = bool(view.events)
        return Outcome(claims.taken, view.told, view.pushed, view.finished, woken, view.catalog_changed, changed, has_work, view.topics)

    def _fault(self, when: str, calls: Sequence[Call], claims: Claims) -> None:
        if faults.hook is not None:
            faults.at_commit(when, [*(call.operation.name for call in calls), *(["claim"] if claims.taken else [])])

    def _placed(self, view: View, calls: Sequence[Call], wants: Rows) -> Rows:
        """The lanes of new runs must be locked with everything else, so their place is looked up before the fold."""
        for call in calls:
            if call.operation.lanes is not None:
                wants.lanes.update(call.operation.lanes(view, call.item))
            if call.operation.also is not None:
                call.operation.also(view, call.item, wants)
        return wants

    def _notify(self, view: View) -> None:
        """One hint for the other servers. It is sent by the commit, so nobody hears of what did not happen."""
        words = [f"env:{env}" for env in view.woken] + [f"tell:{t.session}:{t.run_id}:{t.epoch}" for t in view.told]
        words += [f"push:{p.session}:{p.run_id}:{p.epoch}:{p.journal}:{p.entry.seq}" for p in view.pushed]
        if view.finished:
            words.append("finished")
        if view.catalog_changed:
            words.append("catalog")
        words += [f"topic:{env}:{topic}" for env, topic in view.topics]
        if view.events and not words:
            words.append("changed")
        if words:
            text = " ".join([self.server, *words])
            text = text if len(text) < MAX_HINT_CHARS else text[:MAX_HINT_CHARS].rpartition(" ")[0]
            view.tx.send("SELECT pg_notify('outlast_wake', :text)", text=text)

    def _bisect(self, calls: Sequence[Call], demands: Callable[[], Sequence[Demand]], error: Exception) -> Outcome:
        """One item poisons the transaction: find it by halves, so that its neighbours go through."""
        if len(calls) == 1:
            log.error("operation failed", extra={"operation": calls[0].operation.name}, exc_info=error)
            return self._refuse(calls, error)
        if not calls:
            log.error("claim failed", exc_info=error)
            return Outcome()
        return self._halves(calls, demands)

    def _halves(self, calls: Sequence[Call], demands: Callable[[], Sequence[Demand]]) -> Outcome:
        outcome = Outcome()
        middle = len(calls) // 2
        outcome.add(self.flush(calls[:middle], list))
        outcome.add(self.flush(calls[middle:], demands))
        return outcome

    def _refuse(self, calls: Sequence[Call], error: Exception) -> Outcome:
        for call in calls:
            call.error = error
        return Outcome()
