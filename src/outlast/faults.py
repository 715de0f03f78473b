"""Named points at which a process can be made to fail, for tests. Without a hook each costs one look at a variable.

`OUTLAST_FAULTS=name=action[@n],…` arms a process at its start: at the n-th time (the first, unless said otherwise) it comes to
that point it is killed (`kill`), an error is raised there (`raise`, `enospc`), it stands still (`hang`), goes on a second later
(`sleep`), or what it was about to send or had received is thrown away (`drop`).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

# every point there is, by the process that comes to it; `tests/simulation/test_faults.py` goes through all of them
STATEMENTS: Final = ("requests", "keys", "runs", "batches", "journal", "waitpoints", "timers", "work", "sessions", "lanes")
OPERATIONS: Final = (
    "trigger",
    "complete",
    "record",
    "suspend",
    "wait_over",
    "cancel",
    "lose",
    "give_back",
    "claim",
    "complete_token",
    "beat",
)
SERVER: Final = (
    *(f"{operation}.{when}" for operation in OPERATIONS for when in ("before_commit", "after_commit")),
    *(f"write.{statement}" for statement in STATEMENTS),
    "channel.receive",
    "channel.send",
)
WORKER: Final = (
    "executor.receive",
    "executor.send",
    "supervisor.receive",
    "supervisor.send",
    "run.before",
    "run.after",
    "step.after_effect",
)

hook: Callable[[str], bool] | None = None  # True: drop it


class FaultError(RuntimeError):
    """What a point raises when it is told to."""


def point(name: str) -> None:
    if hook is not None:
        hook(name)


def drops(name: str) -> bool:
    """Whether what is about to be sent, or has come, is to be lost; a connection is lost with it."""
    return hook is not None and hook(name)


def at_commit(when: str, operations: Iterable[str]) -> None:
    """A transaction is about to be committed, or has been."""
    if hook is not None:
        for name in dict.fromkeys(operations):
            hook(f"{name}.{when}")


def arm() -> None:
    """Do what the environment says; processes of ours call this once, at their start."""
    global hook
    text = os.environ.get("OUTLAST_FAULTS")
    if text:
        hook = _from(text)


def _from(text: str) -> Callable[[str], bool]:
    wanted: dict[str, tuple[str, int]] = {}
    for part in text.split(","):
        name, _, action = part.strip().partition("=")
        action, _, n = action.partition("@")
        if name not in SERVER and name not in WORKER:
            raise ValueError(f"OUTLAST_FAULTS: there is no point {name!r}")
        wanted[name] = (action, int(n or 1))
    seen: Counter[str] = Counter()

    def fire(name: str) -> bool:
        if name not in wanted:
            return False
        seen[name] += 1
        action, n = wanted[name]
        return seen[name] == n and _act(name, action)

    return fire


def _act(name: str, action: str) -> bool:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise FaultError(f"told to fail at {name}")
        case "enospc":
            raise OSError(errno.ENOSPC, f"told to fail at {name}")
        case "hang":
            time.sleep(3_600)
        case "sleep":
            time.sleep(1)
        case "drop":
            return True
        case _:
            raise ValueError(f"OUTLAST_FAULTS: there is no action {action!r}")
    return False
