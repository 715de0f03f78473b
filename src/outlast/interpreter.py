"""How the processes that are ours alone use the interpreter. A process that embeds us is left as it is."""

from __future__ import annotations

import gc
import sys

SWITCH_SECONDS = 0.0001  # at the default of 5 ms a busy event loop starves threads for seconds
COLLECT = (10_000, 20, 20)  # young objects before they are looked through: a flush makes thousands, and no cycles


def settle() -> None:
    """What is loaded by now stays: no collection looks through it again."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
