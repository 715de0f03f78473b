"""Writes the server has not answered: kept in order, in memory up to a limit, beyond it in files. A result is never thrown away."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from outlast.model.messages import Abandoned, Awake, Blocked, Cold, Done, Op, Release, Side

log = logging.getLogger("outlast.worker")

MAX_MEMORY_BYTES: Final = 10 * 1024 * 1024  # a server that is away must not fill the executor's memory
Write = Done | Release | Op | Abandoned | Blocked | Cold | Awake | Side
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Write).decode


class Spooled(msgspec.Struct, frozen=True):
    """A write that lies in a file."""

    run_id: str
    epoch: int
    attempt: int
    path: Path


class Unanswered:
    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._writes: dict[int, Write | Spooled] = {}
        self._bytes = 0

    def __contains__(self, n: int) -> bool:
        return n in self._writes

    def __len__(self) -> int:
        return len(self._writes)

    def add(self, message: Write) -> None:
        size = _size(message)
        kept: Write | Spooled = message
        if self._bytes + size > MAX_MEMORY_BYTES and self._folder is not None and isinstance(message, Done):
            kept = self._spool(self._folder, message)
        if kept is message:
            self._bytes += size
        self._writes[message.n] = kept

    def get(self, n: int) -> Write | None:
        kept = self._writes.get(n)
        return _load(kept) if isinstance(kept, Spooled) else kept

    def pop(self, n: int) -> tuple[str, int] | None:
        """(run, epoch) of the write that was answered."""
        kept = self._writes.pop(n, None)
        if kept is None:
            return None
        if isinstance(kept, Spooled):
            with contextlib.suppress(OSError):
                kept.path.unlink()
        else:
            self._bytes -= _size(kept)
        return kept.run_id, kept.epoch

    def drop(self, run_id: str, epoch: int) -> None:
        """The run is another's now: its writes would only be refused."""
        for n in [n for n, kept in self._writes.items() if kept.run_id == run_id and kept.epoch == epoch]:
            self.pop(n)

    def runs(self) -> Iterator[tuple[str, int, int]]:
        """(run, epoch, attempt) of each."""
        for kept in self._writes.values():
            yield kept.run_id, kept.epoch, kept.attempt if isinstance(kept, (Done, Spooled)) else 0

    def __iter__(self) -> Iterator[Write]:
        for kept in list(self._writes.values()):
            found = _load(kept) if isinstance(kept, Spooled) else kept
            if found is not None:
                yield found

    def _spool(self, folder: Path, message: Done) -> Done | Spooled:
        path = folder / f"{message.n}.done"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(_encode(message))
        except OSError as error:  # a full disk: memory is what is left
            log.warning("a result could not be spooled", extra={"run_id": message.run_id, "reason": str(error)})
            return message
        return Spooled(message.run_id, message.epoch, message.attempt, path)


def _load(kept: Spooled) -> Write | None:
    try:
        return _decode(kept.path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        log.error("a spooled result cannot be read", extra={"run_id": kept.run_id, "reason": str(error)})
        return None


def _size(message: Write) -> int:
    if isinstance(message, Op):
        return 400 + sum(len(value) for value in message.args.values() if isinstance(value, str))
    if isinstance(message, Side):
        return 400 + sum(100 + len(item.value) for item in message.items)
    if not isinstance(message, Done):
        return 200
    error = message.error
    return 400 + len(message.output or "") + (len(error.message) + len(error.stack) if error is not None else 0)
