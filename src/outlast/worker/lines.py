"""What runs say, on its way to the server: gathered for a moment, capped per run and in all, and counted when dropped."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO, cast

from outlast.model.failure import cut
from outlast.model.limits import MAX_LOG_CHARS
from outlast.model.messages import Log, LogLine
from outlast.worker.redaction import redacted

FLUSH_SECONDS: Final = 0.05
MAX_RUN_LINES: Final = 5_000  # a second, of one run: a loop that prints must not fill the database
MAX_WAITING_LINES: Final = 20_000  # of all runs, while the server is away or slow
MAX_WAITING_CHARS: Final = 16 * 1024 * 1024
MESSAGE_LINES: Final = 500
MESSAGE_CHARS: Final = 512 * 1024
MAX_DATA_CHARS: Final = 1_000  # of one value that is not plain

Level = Literal["debug", "info", "warn", "error"]
Source = Literal["logger", "logging", "stdout", "stderr", "system", "span"]


class LogBuffer:
    """`say` may be called from any thread; all else belongs to the loop."""

    def __init__(self, put: Callable[[Log], None], *, is_connected: Callable[[], bool]) -> None:
        self.echo: TextIO | None = None  # development: people read along
        self.at_once: Callable[[Log], None] | None = None  # where the process may end at any moment: nothing is gathered
        self._put = put
        self._is_connected = is_connected
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._lines: list[LogLine] = []
        self._chars = 0
        self._dropped = 0
        self._rates: dict[str, list[int]] = {}  # run → [second, lines in it, dropped in all]
        self._timer: asyncio.TimerHandle | None = None
        self._is_asked = False

    def say(self, run_id: str, attempt: int, level: str, source: str, message: str, data: dict[str, Any] | None) -> None:
        text = cut(redacted(message), MAX_LOG_CHARS)
        # neither NUL nor half a surrogate is text to a database
        text = text.replace("\x00", "\\u0000").encode("utf-8", "replace").decode()
        ms = time.time_ns() // 1_000_000
        line = LogLine(run_id, attempt, ms, cast("Level", level), cast("Source", source), text, _plain(data))
        with self._lock:
            if not self._has_room(run_id, ms // 1_000, len(text)):
                self._dropped += 1
                return
            if self.at_once is not None:
                dropped, self._dropped = self._dropped, 0
                self.at_once(Log([line], dropped))
            else:
                self._lines.append(line)
                self._chars += len(text)
            asked, self._is_asked = self._is_asked or self.at_once is not None, True
        if self.echo is not None and source != "span":
            _echo(self.echo, line)
        if not asked and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._later)

    def take(self, log: Log) -> None:
        """Lines of another process, counted there."""
        with self._lock:
            room = max(0, MAX_WAITING_LINES - len(self._lines))
            self._lines += log.lines[:room]
            self._chars += sum(len(line.message) for line in log.lines[:room])
            self._dropped += log.dropped + len(log.lines[room:])
        self._later()

    def over(self, run_id: str, attempt: int) -> None:
        """An attempt ended: what was dropped of it is told, and everything leaves now, before its `done`."""
        if self._rates:
            rate = self._rates.pop(run_id, None)
            if rate is not None and rate[2]:
                self.say(run_id, attempt, "warn", "system", f"{rate[2]} log lines were dropped: too many at once", None)
                self._rates.pop(run_id, None)
        if self._lines:
            self.flush()

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_connected():
            return  # kept; `flush` is called again when the server is back
        with self._lock:
            lines, self._lines = self._lines, []
            dropped, self._dropped = self._dropped, 0
            self._chars = 0
            self._is_asked = False
        batch: list[LogLine] = []
        chars = 0
        for line in lines:
            if batch and (len(batch) == MESSAGE_LINES or chars + len(line.message) > MESSAGE_CHARS):
                self._put(Log(batch, dropped))
                batch, chars, dropped = [], 0, 0
            batch.append(line)
            chars += len(line.message)
        if batch or dropped:
            self._put(Log(batch, dropped))

    def _later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_SECONDS, self.flush)

    def _has_room(self, run_id: str, second: int, chars: int) -> bool:
        rate = self._rates.get(run_id)
        if rate is None:
            rate = self._rates[run_id] = [second, 0, 0]
        elif rate[0] != second:
            rate[0], rate[1] = second, 0
        rate[1] += 1
        if rate[1] <= MAX_RUN_LINES and len(self._lines) < MAX_WAITING_LINES and self._chars + chars <= MAX_WAITING_CHARS:
            return True
        rate[2] += 1
        return False


def _echo(stream: TextIO, line: LogLine) -> None:
    try:
        stream.write(f"{line.run_id[-6:]} {line.level:5} {line.message}\n")
        stream.flush()
    except (OSError, ValueError):  # a terminal that went away is no reason to fail a run
        return


def _plain(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """Structured data of a line, as far as it can travel."""
    if data is None:
        return None
    return {str(key)[:128]: _value(value) for key, value in data.items()}


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**53) <= value <= 2**53:
        return int(value)
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return float(value)
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # user code: anything may happen in __repr__
        text = f"<{type(value).__qualname__}>"
    limit = MAX_LOG_CHARS if isinstance(value, str) else MAX_DATA_CHARS
    return cut(redacted(text), limit).replace("\x00", "\\u0000").encode("utf-8", "replace").decode()
