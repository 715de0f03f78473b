"""The logs of our own processes."""

from __future__ import annotations

import json
import logging

from outlast.worker.log import JsonFormatter, TextFormatter


def _record(**fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": "executor died", "levelno": logging.WARNING, "levelname": "WARNING", "created": 0.0, **fields})


def test_machines_get_one_object_a_line() -> None:
    text = JsonFormatter().format(_record(run_id="run_1", reason="two\nlines"))
    assert "\n" not in text
    found = json.loads(text)
    assert (found["level"], found["event"], found["run_id"], found["reason"]) == ("warning", "executor died", "run_1", "two\nlines")
    assert found["at"].endswith("Z")


def test_people_get_key_value() -> None:
    assert TextFormatter().format(_record(run_id="run_1")).endswith("warning executor died run_id=run_1")


def test_values_with_spaces_are_quoted() -> None:
    assert TextFormatter().format(_record(reason="it is away")).endswith('reason="it is away"')
