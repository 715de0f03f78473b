"""`logger`: what a run says, kept with the run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from outlast import current

_outside = logging.getLogger("outlast.logger")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


tracer: Any = None  # OpenTelemetry's, where a worker has been configured with it
_span: ContextVar[str] = ContextVar("outlast_span", default="")


def tell(
    attempt: current.Attempt, name: str, id_: str, parent: str, began_ns: int, ended_ns: int, status: str, attributes: dict[str, Any]
) -> None:
    """A span that ended, on its way with the run's lines: bounded as they are, and off the path of the run."""
    span = {"span.id": id_, "span.parent": parent, "span.start": began_ns // 1_000_000, "span.end": ended_ns // 1_000_000}
    attempt.emit("info", "span", str(name), {**attributes, **span, "span.status": status})


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

    @contextmanager
    def trace(self, name: str, **attributes: Any) -> Generator[None]:
        """A block of a run that is shown as a span of its trace, and exported where OpenTelemetry is configured.

        Example:
            >>> with logger.trace("render", pages=3):
            ...     render()
        """
        attempt = current.attempt.get()
        if tracer is not None:
            with tracer.start_as_current_span(name, attributes=attributes):
                yield
            return
        if attempt is None:
            yield
            return
        id_, parent, began, status = os.urandom(8).hex(), _span.get(), time.time_ns(), "bad"
        token = _span.set(id_)
        try:
            yield
            status = "ok"
        finally:
            _span.reset(token)
            tell(attempt, name, id_, parent, began, time.time_ns(), status, attributes)

    def _emit(self, level: str, message: str, data: dict[str, Any]) -> None:
        attempt = current.attempt.get()
        if attempt is not None:
            attempt.emit(level, "logger", str(message), data or None)
        else:
            _outside.log(_LEVELS[level], "%s %s" if data else "%s", *((message, data) if data else (message,)))


logger = Logger()
