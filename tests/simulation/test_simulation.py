"""300 seeds of the simulation, and that a seed repeats itself exactly."""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest

from tests.simulation.fresh import use_postgres
from tests.simulation.plan import draw
from tests.simulation.world import run

SEEDS = 300
PART = 25  # tests share the cores


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_seeds(first: int) -> None:
    for seed in range(first, first + PART):
        run(seed)


def test_a_worker_leaves_a_server_that_nobody_finds() -> None:
    plan = draw(Random("0:plan"))
    plan.servers, plan.troubles = 2, ["unlist_server", "reset"]
    run(0, plan=plan)


@pytest.mark.full
def test_seeds_on_postgresql(postgres_url: str) -> None:
    """The other half of our SQL, under the same troubles."""
    use_postgres(postgres_url)
    try:
        for seed in range(40):
            run(seed)
    finally:
        use_postgres(None)


def test_a_seed_repeats_itself_in_another_process() -> None:
    """Whatever the hashes of strings: a failure can be looked at as often as needed."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "11"]
    stories = [
        subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)}).stdout
        for seed in (1, 2)
    ]
    told = [[line for line in story.splitlines() if "virtual seconds in" not in line and "Plan(" not in line] for story in stories]
    assert told[0] == told[1]
    assert len(told[0]) > 20
