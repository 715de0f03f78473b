"""Processes that do not hear Ctrl-C and SIGTERM, which reach whole groups: the supervisor alone decides. What tasks start does hear."""

from __future__ import annotations

import os
import signal

_armed = False


def be_deaf() -> None:
    """By a handler: programs that a task starts would inherit SIG_IGN, and could not be ended by it."""
    global _armed
    signal.signal(signal.SIGINT, _nothing)
    signal.signal(signal.SIGTERM, _nothing)
    if not _armed and hasattr(os, "register_at_fork"):
        _armed = True
        os.register_at_fork(after_in_child=_hear)


def _nothing(_number: int, _frame: object) -> None: ...


def _hear() -> None:
    """A process that a task forks, as multiprocessing does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
