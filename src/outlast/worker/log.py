"""Our own processes' logs, on stderr: key=value for people at a terminal, one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}


def configure(format_: str | None = None, level: int = logging.INFO) -> None:
    """Log to stderr. `format_` is text or json; without it a terminal gets text."""
    as_json = format_ == "json" or (format_ is None and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    ours = logging.getLogger("outlast")
    ours.handlers[:] = [handler]
    ours.setLevel(level)
    ours.propagate = False


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"] = "".join(logging.Formatter().formatException(record.exc_info))
    return fields


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = _fields(record)
        error = fields.pop("error", None) if record.exc_info else None
        words = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
        return f"{at} {record.levelname.lower():7} {record.getMessage()} {words}".rstrip() + (f"\n{error}" if error else "")


def _word(value: Any) -> str:
    """A value as one word; quoted when it holds a space, a quote or a line end. Stacks stay readable."""
    text = str(value)
    if "\n" in text:
        return "\n" + text.rstrip()
    return json.dumps(text, ensure_ascii=False) if any(char in text for char in ' "=') or not text else text


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        return json.dumps({"at": at, "level": record.levelname.lower(), "event": record.getMessage(), **_fields(record)}, default=str)
