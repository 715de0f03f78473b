"""What a run prints and logs, kept with the run: stdout, stderr and `logging`, told apart by context, in threads too."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any, Literal, TextIO

from outlast import current
from outlast.model.limits import MAX_LOG_CHARS

Source = Literal["stdout", "stderr"]
_LEVEL: dict[Source, str] = {"stdout": "info", "stderr": "error"}
_NAMES = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"))


class RunStream(io.TextIOBase):
    """A standard stream that gives a run's lines to the run, and everything else to the real one."""

    def __init__(self, real: TextIO, source: Source) -> None:
        self._real = real
        self._source: Source = source
        self._bytes = _RunBytes(self, real)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> io.RawIOBase:
        return self._bytes

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return current.attempt.get() is None and self._real.isatty()

    def fileno(self) -> int:
        return self._real.fileno()

    def write(self, text: str) -> int:
        attempt = current.attempt.get()
        if attempt is None:
            return self._real.write(text)
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # as a real stream does
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        kept = attempt.locals.setdefault(f"$partial:{self._source}", _Partial())
        for line in kept.lines(text):
            attempt.emit(_LEVEL[self._source], self._source, line, None)
        return len(text)

    def flush(self) -> None:
        if current.attempt.get() is None:
            self._real.flush()

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)


class _RunBytes(io.RawIOBase):
    """What is written to `sys.stdout.buffer`: text in a run's log, whatever the bytes are."""

    def __init__(self, text: RunStream, real: TextIO) -> None:
        self._text = text
        self._real = real

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        if current.attempt.get() is None:
            return self._real.buffer.write(raw)
        self._text.write(raw.decode("utf-8", "replace"))
        return len(raw)

    def flush(self) -> None:
        self._text.flush()


class _Partial:
    """The beginning of a line; kept in pieces, since joining at each write would cost the square of its length."""

    __slots__ = ("_chars", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._chars = 0

    def lines(self, text: str) -> list[str]:
        """The lines that are whole now; one that never ends is cut at the limit."""
        if "\n" not in text:
            self._pieces.append(text)
            self._chars += len(text)
            return [] if self._chars <= MAX_LOG_CHARS else self.rest()
        first, *others = text.split("\n")
        whole = ["".join(self._pieces) + first, *others[:-1]]
        self._pieces, self._chars = [others[-1]], len(others[-1])
        return [line for line in whole if line]

    def rest(self) -> list[str]:
        line = "".join(self._pieces)
        self._pieces, self._chars = [], 0
        return [line] if line else []


def finish_lines(attempt: current.Attempt) -> None:
    """The last lines of an attempt, when they had no line end."""
    if not attempt.locals:
        return
    for source, level in _LEVEL.items():
        partial = attempt.locals.pop(f"$partial:{source}", None)
        for line in partial.rest() if partial is not None else ():
            attempt.emit(level, source, line, None)


class RunHandler(logging.Handler):
    """Gives the records of `logging` that a run makes to the run."""

    def emit(self, record: logging.LogRecord) -> None:
        attempt = current.attempt.get()
        if attempt is None:
            return
        level = next((name for number, name in _NAMES if record.levelno >= number), "debug")
        try:
            message = self.format(record)
        except Exception:  # a log call with wrong arguments must not fail the run
            message = str(record.msg)
        attempt.emit(level, "logging", message, {"logger": record.name})


def install() -> tuple[TextIO, TextIO]:
    """Put the streams and the handler in place; the real streams are returned."""
    real: tuple[Any, Any] = (sys.stdout, sys.stderr)
    sys.stdout = RunStream(real[0], "stdout")
    sys.stderr = RunStream(real[1], "stderr")
    root = logging.getLogger()
    root.addHandler(RunHandler())
    if root.level > logging.INFO:
        root.setLevel(logging.INFO)
    # our own client speaks through these: a line for each trigger would bury what the user says
    for name in ("httpx", "httpcore"):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
    return real
