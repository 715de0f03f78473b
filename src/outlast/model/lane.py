"""Lanes: the queue of one (queue, concurrency key, route), and how free slots are shared among them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from outlast.model.manifest import Kind

ALONE = "/alone"


class Lane(msgspec.Struct, kw_only=True, gc=False):
    """One lane as its row holds it. `used` counts slots and lives on the base lane only."""

    id: int
    base_id: int
    env_id: int
    queue_id: int
    key: str
    route: str
    head: int | None
    used: int
    queued: int
    open: bool


class Candidate(msgspec.Struct, gc=False):
    """A lane with something to do. `free` is what its base has left, shared by all lanes of that base; `caps` name what else is."""

    lane_id: int
    base_id: int
    free: int
    queue_id: int = 0
    key: str = ""
    head: int = 0  # the place of its oldest entry
    caps: tuple[tuple[int, str], ...] = ()


def route(version: str | None, kind: Kind) -> str:
    """Who may take a run: any current worker, or only those of one version; and which executors."""
    name = f"v:{version}" if version else "current"
    return name if kind == "async" else f"{name}/{kind}"


def held_route(session: str, home: str) -> str:
    """For a while only this worker may take the run: it has its coroutine."""
    return f"s:{session}:{home}"


def home_route(name: str) -> str:
    """Who may take it when nobody is preferred."""
    return name.split(":", 2)[2] if name.startswith("s:") else name


def pinned(name: str, version: str) -> str:
    """The same for one version only."""
    _, slash, how = home_route(name).partition("/")
    return f"v:{version}{slash}{how}"


def alone_route(name: str) -> str:
    """For a run that may be poison: it gets a process of its own, whatever its task says."""
    return home_route(name).partition("/")[0] + ALONE


def is_alone(name: str) -> bool:
    return name.endswith(ALONE)


def kind_of(name: str) -> Kind:
    """Whose slots it takes."""
    if name.endswith("/thread"):
        return "thread"
    return "process" if name.endswith(("/process", ALONE)) else "async"


def effective_limit(queue_limit: int | None, override: int | None, env_limit: int) -> int:
    """A queue's limit: its override, else its own, and never above the environment's (which burst does not raise here)."""
    own = override if override is not None else queue_limit
    return env_limit if own is None else min(own, env_limit)


def share(candidates: Sequence[Candidate], room: int, budgets: dict[tuple[int, str], int] | None = None) -> dict[int, int]:
    """How many runs to take from each lane: a fair part for all first, then what is left to the same lanes in order.

    What is taken of `budgets` is taken from them.
    """
    budgets = budgets if budgets is not None else {}
    take = {c.lane_id: 0 for c in candidates}
    left = {c.base_id: c.free for c in candidates}
    rounds = [-(-room // max(1, len(candidates))), room]  # a fair part rounded up, then everything
    for part in rounds:
        for c in candidates:
            if room <= 0:
                return take
            n = min(part, left[c.base_id], room, *(budgets[cap] for cap in c.caps))
            if n > 0:
                take[c.lane_id] += n
                left[c.base_id] -= n
                for cap in c.caps:
                    budgets[cap] -= n
                room -= n
    return take
