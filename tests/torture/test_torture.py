"""The three-minute torture, on both databases: nothing acknowledged is lost, and every rule holds afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.full
@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_three_minutes(database: str) -> None:
    command = [sys.executable, "-m", "tests.torture", "--minutes", "3", "--database", database, "--rate", "3"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1_200, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "lost 0, wrong 0" in ran.stdout
