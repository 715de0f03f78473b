"""The year's checker is checked: a product that loses or doubles a run, in a scratch copy, must fail it. Half a minute."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.mutants import Mutant

ROOT = Path(__file__).parents[2]
FIRE = "engine/schedules.py"
NOW_AND_THEN = "nominal // 3_600_000 % 11 == 0"
MUTANTS = (
    Mutant(
        "a time is passed over, and looks as if it had never been",
        ((FIRE, "        if nominal not in done:\n", f"        if nominal not in done and not {NOW_AND_THEN}:\n"),),
    ),
    Mutant(
        "a time is written down and its run is not made",
        ((FIRE, "    reason = _not_now(view, s)\n", f'    reason = "lost" if {NOW_AND_THEN} else _not_now(view, s)\n'),),
    ),
    Mutant(
        "a time has two runs",
        (
            (
                FIRE,
                "        made = triggers.trigger.decide(view, asked)\n",
                f"        if {NOW_AND_THEN}:\n            triggers.trigger.decide(view, asked)\n"
                "        made = triggers.trigger.decide(view, asked)\n",
            ),
        ),
    ),
    Mutant(
        "two servers each fire a time, by a tick that is not looked at",
        (
            (FIRE, "    done = store.ticked(view.tx, s.id, times) if times else set[int]()\n", "    done = set[int]()\n"),
            (
                FIRE,
                "    view.flow.save(replace(model.planned(s, following, secret), updated_at=s.updated_at))\n    return made\n",
                "    if s.id not in _held:\n        _held.add(s.id)\n        view.flow.ticks.clear()\n        return made\n"
                "    _held.discard(s.id)\n"
                "    view.flow.save(replace(model.planned(s, following, secret), updated_at=s.updated_at))\n    return made\n",
            ),
            (FIRE, "def _fire_one(", "_held = set[str]()\n\n\ndef _fire_one("),
        ),
    ),
    Mutant("runs overlap that must not", ((FIRE, 'return None if s.overlap == "allow" else', "return None if s.overlap else"),)),
    Mutant(
        "what was missed is made up for", (("model/schedule.py", 'missed = s.catch_up == "none" and', "missed = s.catch_up == '' and"),)
    ),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scratch")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "node_modules", "full"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def week(folder: Path, mutant: Mutant | None) -> subprocess.CompletedProcess[str]:
    shutil.rmtree(folder / "src", ignore_errors=True)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    if mutant is not None:
        mutant.apply(folder / "src" / "outlast")
    command = [sys.executable, "-m", "pytest", "tests/schedules/test_year.py", "-k", "week and sqlite", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder / "src"), str(folder)))}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.full
def test_the_year_passes_in_the_scratch_copy(scratch: Path) -> None:
    done = week(scratch, None)
    assert "1 passed" in done.stdout, done.stdout[-2_000:] + done.stderr[-2_000:]


@pytest.mark.full
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_year_notices(scratch: Path, mutant: Mutant) -> None:
    done = week(scratch, mutant)
    assert "1 failed" in done.stdout and "AssertionError" in done.stdout, done.stdout[-2_000:] + done.stderr[-2_000:]
