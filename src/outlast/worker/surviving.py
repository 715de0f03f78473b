"""Running an event loop that user code cannot end: `sys.exit` in some task of the user's fails that task, not the executor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("outlast.worker")


def run_surviving(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on the standard loop. SystemExit and KeyboardInterrupt in other tasks end those tasks only.

    asyncio hands these two on through the loop itself, whichever task raised them: one `sys.exit()` in a child task of one
    run would take all runs of the executor with it. The task keeps the exception, so that who awaits it sees it.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(main)
    try:
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as raised:
                if task.done():
                    raise
                log.warning("a task of user code wanted to end the process", extra={"raised": f"{type(raised).__name__}({raised})"})
    finally:
        asyncio.set_event_loop(None)
        loop.close()
