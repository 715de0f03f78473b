"""Waiting until something is so, which is looked at again after each change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class Changed:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()

    async def until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until it is so, but not longer than these seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not ready():
                    self._event.clear()
                    await self._event.wait()
