"""`python -m tests.mutants`: the checker is checked. Each mutant is applied in a copy; the simulation, or the torture, has to notice."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="M1 … M12; without any all of them")
    parser.add_argument("--seeds", type=int, default=300)
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if not arguments.names or m.name.split()[0] in arguments.names]
    caught = sum([attempt(mutant, arguments.seeds) for mutant in chosen])
    print(f"{caught} of {len(chosen)} caught")
    sys.exit(0 if caught >= len(chosen) - 1 else 1)


def attempt(mutant: Mutant, seeds: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="outlast-mutant-") as name:
        folder = Path(name)
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        mutant.apply(folder / "src" / "outlast")
        command = [sys.executable, "-m", *_machine(mutant, seeds)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder / "src"), str(folder)))}
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    begins = "WRONG " if mutant.by == "torture" else "seed "
    found = next((line for line in ran.stdout.splitlines() if line.startswith(begins)), "")
    print(f"{'caught  ' if ran.returncode else 'ESCAPED '} {mutant.name}: {found[:160]}", flush=True)
    return ran.returncode != 0


def _machine(mutant: Mutant, seeds: int) -> list[str]:
    if mutant.by == "torture":
        return ["tests.torture", "--minutes", "2", "--rate", "1"]
    return ["tests.simulation", "--seeds", str(seeds), "--until-broken", "--workers", "2"]


if __name__ == "__main__":
    main()
