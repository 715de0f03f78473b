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

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._real.fileno()

    def write(self, text: str) -> int:
        attempt = current.attempt.get()
        if attempt is None:
            return self._real.write(text)
        key = f"$partial:{self._source}"
        whole = attempt.locals.get(key, "") + text
        *lines, rest = whole.split("\n")
        if len(rest) > MAX_LOG_CHARS:  # a line that never ends
            lines.append(rest)
            rest = ""
        attempt.locals[key] = rest
        for line in lines:
            if line:
                attempt.emit(_LEVEL[self._source], self._source, line, None)
        return len(text)

    def flush(self) -> None:
        if current.attempt.get() is None:
            self._real.flush()

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)


def finish_lines(attempt: current.Attempt) -> None:
    """The last lines of an attempt, when they had no line end."""
    for source, level in _LEVEL.items():
        rest = attempt.locals.pop(f"$partial:{source}", "")
        if rest:
            attempt.emit(level, source, rest, None)


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
    if root.level > logging.INFO or root.level == logging.NOTSET:
        root.setLevel(logging.INFO)
    return real
