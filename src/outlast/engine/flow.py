"""What flow control adds to a flush: schedules, gates and debounce keys, loaded and written in their place in the order of locks."""

from __future__ import annotations

import msgspec

from outlast.engine.rows import NeedsLock, Rows
from outlast.model.run import RunData
from outlast.model.schedule import Schedule
from outlast.store import gates, runs, schedules
from outlast.store.database import Connection
from outlast.store.gates import DebounceKey, Gate


class Flow(msgspec.Struct):
    """Loaded rows, and what will be written of them."""

    schedules: dict[str, Schedule] = {}
    gates: dict[Gate, str] = {}
    debounced: dict[DebounceKey, tuple[str, int]] = {}
    loaded: Rows = msgspec.field(default_factory=Rows)

    changed: set[str] = set()
    gone: set[str] = set()
    ticks: list[tuple[str, int, int, str | None, str | None]] = []
    held: dict[Gate, tuple[str, str | None]] = {}  # new holder, the one before
    waiting: dict[str, Gate] = {}
    admitted: dict[str, Gate] = {}
    keys: dict[DebounceKey, tuple[str, int, str | None]] = {}
    data: dict[str, RunData] = {}
    gone_tags: set[tuple[int, str, str]] = set()

    def schedule(self, schedule_id: str, env_id: int | None = None) -> Schedule | None:
        """The schedule; None when there is none, or when it belongs to another environment."""
        if schedule_id not in self.loaded.schedules:
            raise NeedsLock(Rows(schedules={schedule_id}))
        found = self.schedules.get(schedule_id)
        return found if found is not None and (env_id is None or found.env_id == env_id) else None

    def save(self, schedule: Schedule) -> Schedule:
        self.schedules[schedule.id] = schedule
        self.changed.add(schedule.id)
        return schedule

    def holder(self, gate: Gate) -> str | None:
        if gate not in self.loaded.gates:
            raise NeedsLock(Rows(gates={gate}))
        return self.gates.get(gate)

    def hold(self, gate: Gate, run_id: str) -> None:
        before = self.held[gate][1] if gate in self.held else self.gates.get(gate)
        self.gates[gate] = run_id
        self.held[gate] = (run_id, before)

    def new_waiters(self, gate: Gate) -> list[str]:
        return [run_id for run_id, name in self.waiting.items() if name == gate]

    def key(self, key: DebounceKey) -> tuple[str, int] | None:
        if key not in self.loaded.debounced:
            raise NeedsLock(Rows(debounced={key}))
        return self.debounced.get(key)

    def take_key(self, key: DebounceKey, run_id: str, now: int) -> None:
        before = self.keys[key][2] if key in self.keys else self.debounced.get(key, (None, 0))[0]
        self.debounced[key] = (run_id, now)
        self.keys[key] = (run_id, now, before)


def wanted_runs(tx: Connection, wants: Rows) -> None:
    """Who holds what, read without a lock first, so that the runs can be locked in their order."""
    if wants.gates:
        wants.runs.update(gates.holders(tx, wants.gates).values())
    if wants.debounced:
        found = {run_id for run_id, _ in gates.debounced(tx, wants.debounced).values()}
        wants.runs.update(found)
        wants.data.update(found)


def load(tx: Connection, flow: Flow, wants: Rows) -> None:
    flow.loaded = wants
    moved: set[str] = set()
    if wants.debounced:
        flow.debounced = gates.debounced(tx, wants.debounced, lock=True)
        moved |= {run_id for run_id, _ in flow.debounced.values()}
    if wants.gates:
        flow.gates = gates.holders(tx, wants.gates, lock=True)
        moved |= set(flow.gates.values())
    if moved := moved - wants.runs:
        raise NeedsLock(Rows(runs=moved))
    flow.schedules = schedules.lock(tx, wants.schedules)


def write(tx: Connection, flow: Flow, now: int) -> None:
    """Keys before runs: a key that was taken meanwhile must stop the flush before anything of it is seen."""
    gates.debounce(tx, [(*key, run_id, at, before) for key, (run_id, at, before) in sorted(flow.keys.items())])
    gates.hold(tx, [(*gate, run_id, now, before) for gate, (run_id, before) in sorted(flow.held.items())])
    gates.add_waiting(tx, sorted((*gate, run_id) for run_id, gate in flow.waiting.items()))
    gates.remove_waiting(tx, sorted((*gate, run_id) for run_id, gate in flow.admitted.items()))
    runs.replace_data(tx, flow.data.values(), sorted(flow.gone_tags))
    schedules.delete(tx, sorted(flow.gone))
    schedules.save(tx, [flow.schedules[id_] for id_ in sorted(flow.changed - flow.gone)])
    schedules.add_ticks(tx, flow.ticks)
    _forget(flow)


def _forget(flow: Flow) -> None:
    for written in (flow.changed, flow.gone, flow.ticks, flow.held, flow.waiting, flow.admitted, flow.keys, flow.data, flow.gone_tags):
        written.clear()
