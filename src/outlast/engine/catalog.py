"""What triggers ask of every run and what rarely changes: environments, queues, task definitions, lane ids. A cache over the store.

Only placement is decided from it, never a limit: the claim reads limits where it holds the locks. What is not found here is looked up.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from outlast.model.lane import route
from outlast.model.manifest import TaskDefinition
from outlast.model.run import Run
from outlast.store import catalog as store
from outlast.store.catalog import Environment
from outlast.store.database import Connection
from outlast.store.lanes import LaneKey

MAX_LANES = 200_000  # about 40 MB of ids; the least recently used fall out
MAX_PARENTS = 50_000  # runs that execute here, with room to spare


class Placement(msgspec.Struct, frozen=True):
    """Where a run of a task goes. `queue_id` None: its task or queue is not known yet."""

    queue: str
    queue_id: int | None
    route: str
    definition: TaskDefinition | None


class Catalog:
    def __init__(self) -> None:
        self._environments: dict[int, Environment] = {}
        self._sizes: dict[tuple[int, str], int | None] = {}
        self._definitions: dict[tuple[int, str, str], TaskDefinition] = {}
        self._queues: dict[tuple[int, str], int] = {}
        self._lanes: OrderedDict[LaneKey, tuple[int, int]] = OrderedDict()
        self._bases: dict[int, int] = {}
        self._parents: OrderedDict[str, tuple[str, str] | None] = OrderedDict()
        self._fresh: list[tuple[int, str]] = []  # queues read by the flush that is under way
        self._looked: set[int] = set()  # environments whose version was read again by it

    def begin(self) -> None:
        """A flush begins: what it reads may be its own, and is only true once it has committed."""
        self._fresh.clear()
        self._looked.clear()

    def roll_back(self) -> None:
        """The flush did not commit: a queue it made never existed, and its id will be another one's."""
        for key in self._fresh:
            self._queues.pop(key, None)
        self._fresh.clear()
        self.forget()

    def forget(self) -> None:
        """Something may have changed elsewhere. Queue and lane ids never change."""
        self._environments.clear()
        self._definitions.clear()
        self._sizes.clear()

    def environment(self, tx: Connection, env_id: int) -> Environment:
        found = self._environments.get(env_id)
        if found is None:
            found = self._environments[env_id] = store.environment(tx, env_id)
        return found

    def definition(self, tx: Connection, env_id: int, version: str | None, task: str) -> TaskDefinition | None:
        if version is None:
            return None
        key = (env_id, version, task)
        found = self._definitions.get(key)
        if found is None:
            found = store.task_definitions(tx, env_id, version, [task]).get(task)
            if found is not None:
                self._definitions[key] = found
        return found

    def queue_id(self, tx: Connection, env_id: int, name: str) -> int | None:
        key = (env_id, name)
        found = self._queues.get(key)
        if found is None and (row := store.queue(tx, env_id, name=name)):
            found = self._queues[key] = row.id
            self._fresh.append(key)
        return found

    def queue_size(self, tx: Connection, env_id: int, name: str) -> int | None:
        """How many runs a queue may hold: by its own rule and by its environment's."""
        key = (env_id, name)
        if key not in self._sizes:
            queue = store.queue(tx, env_id, name=name)
            sizes = [queue.max_size if queue else None, self.environment(tx, env_id).max_queue_size]
            self._sizes[key] = min((size for size in sizes if size is not None), default=None)
        return self._sizes[key]

    def place(self, tx: Connection, env_id: int, task: str, queue: str | None, version: str | None) -> Placement:
        current = self.environment(tx, env_id).current_version
        definition = self.definition(tx, env_id, version or current, task)
        if definition is None and version is None and env_id not in self._looked:
            # a version may have been registered by another server since the cache was filled
            self._looked.add(env_id)
            self._environments.pop(env_id, None)
            fresh = self.environment(tx, env_id).current_version
            definition = self.definition(tx, env_id, fresh, task) if fresh != current else None
        name = queue or (definition.queue_name if definition else f"task/{task}")
        if definition is None:
            return Placement(name, None, "current", None)
        return Placement(name, self.queue_id(tx, env_id, name), route(version, definition.kind), definition)

    def lane(self, key: LaneKey) -> tuple[int, int] | None:
        found = self._lanes.get(key)
        if found is not None:
            self._lanes.move_to_end(key)
        return found

    def remember_lane(self, key: LaneKey, ids: tuple[int, int]) -> None:
        self._lanes[key] = ids
        self._bases[ids[0]] = ids[1]
        if len(self._lanes) > MAX_LANES:
            self._bases.pop(self._lanes.popitem(last=False)[1][0], None)

    def forget_lane(self, key: LaneKey) -> None:
        if ids := self._lanes.pop(key, None):
            self._bases.pop(ids[0], None)

    def base(self, lane_id: int) -> int | None:
        """The base of a lane never changes."""
        return self._bases.get(lane_id)

    def remember_parent(self, run: Run) -> None:
        """Who waits for a run that begins here: it never changes, and its end asks for it."""
        self._parents[run.id] = (run.parent_id, run.parent_key) if run.parent_id is not None and run.parent_key is not None else None
        if len(self._parents) > MAX_PARENTS:
            self._parents.popitem(last=False)

    def knows_parent(self, run_id: str) -> bool:
        return run_id in self._parents

    def parent(self, run_id: str) -> tuple[str, str] | None:
        """(run, key of its entry) of who waits for it, as far as it is known here."""
        return self._parents.get(run_id)
