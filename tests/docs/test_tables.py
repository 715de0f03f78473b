"""The tables of behaviours, crash points, bad inputs and browser acts name tests that exist, and say why where there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("page", "title", "last"),
    [
        ("behaviours.md", "# Behaviours", 170),
        ("crash-safety.md", "## Crash points", 52),
        ("bad-input.md", "# Bad input", 85),
        ("dashboard.md", "## Browser acts", 44),
    ],
)
def test_each_row_has_a_test_or_a_reason(page: str, title: str, last: int) -> None:
    text = (ROOT / "docs" / "internals" / page).read_text().partition(title)[2]
    rows = {int(n): tests for n, tests in re.findall(r"^\| (\d+) \|[^|]*\|(.*)\|$", text, re.MULTILINE)}
    assert list(rows) == list(range(1, last + 1))
    assert all(len(tests.strip()) > 5 for tests in rows.values())
    here = {name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert {name for tests in rows.values() for name in re.findall(r"`(test_\w+)`", tests)} - here == set()
