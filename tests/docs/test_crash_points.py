"""The table of crash points names tests that exist, and says why where there is none."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_point_has_a_test_or_a_reason() -> None:
    text = (ROOT / "docs" / "internals" / "crash-safety.md").read_text().partition("## Crash points")[2]
    rows = {int(n): tests for n, tests in re.findall(r"^\| (\d+) \|[^|]*\|(.*)\|$", text, re.MULTILINE)}
    assert list(rows) == list(range(1, 53))
    assert all(len(tests.strip()) > 5 for tests in rows.values())
    here = {name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert {name for tests in rows.values() for name in re.findall(r"`(test_\w+)`", tests)} - here == set()
