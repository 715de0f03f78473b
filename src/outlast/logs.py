"""`logger`: what a run says, kept with the run."""

from __future__ import annotations

import logging
from typing import Any

from outlast import current

_outside = logging.getLogger("outlast.logger")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


class Logger:
    """Structured messages of a run; outside a run they go to the standard logger "outlast.logger".

    Example:
        >>> logger.info("processing", user="ada@example.com")
    """

    def debug(self, message: str, **data: Any) -> None:
        self._emit("debug", message, data)

    def info(self, message: str, **data: Any) -> None:
        self._emit("info", message, data)

    log = info

    def warn(self, message: str, **data: Any) -> None:
        self._emit("warn", message, data)

    warning = warn

    def error(self, message: str, **data: Any) -> None:
        self._emit("error", message, data)

    def _emit(self, level: str, message: str, data: dict[str, Any]) -> None:
        attempt = current.attempt.get()
        if attempt is not None:
            attempt.emit(level, "logger", str(message), data or None)
        else:
            _outside.log(_LEVELS[level], "%s %s" if data else "%s", *((message, data) if data else (message,)))


logger = Logger()
