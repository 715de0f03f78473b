"""The examples for Node run as they are printed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.npm import HERE, NODE, environment
from tests.end_to_end.processes import OUTLAST, until

EXAMPLE = HERE.parents[1] / "examples" / "from-node"


@pytest.fixture
def beside_node_modules(node_modules: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder in which imports find the official packages."""
    folder = HERE / ".run" / tmp_path.name
    shutil.copytree(EXAMPLE, folder)
    yield folder
    shutil.rmtree(folder)


def test_the_client_code_of_a_trigger_dev_guide_runs_against_python_tasks(beside_node_modules: Path, tmp_path: Path) -> None:
    with (tmp_path / "dev.log").open("w") as log:
        dev = subprocess.Popen(
            [OUTLAST, "dev", "--port", "0", "--data", str(tmp_path / "data")],
            cwd=beside_node_modules, stdout=log, stderr=log, env=environment(),
        )  # fmt: skip
    try:
        until(lambda: (tmp_path / "data" / "dev.json").is_file(), seconds=60, what="outlast dev is up")
        note = json.loads((tmp_path / "data" / "dev.json").read_text())
        said = subprocess.run(
            [NODE, "client.ts"], cwd=beside_node_modules, capture_output=True, text=True, timeout=90,
            env=environment(TRIGGER_API_URL=note["url"], TRIGGER_SECRET_KEY=note["key"]),
        )  # fmt: skip
    finally:
        dev.terminate()
        dev.wait(30)
    assert said.returncode == 0, f"{said.stdout}\n{said.stderr}\n{(tmp_path / 'dev.log').read_text()}"
    lines = said.stdout.splitlines()
    assert lines[:3] == ["output true", "same run true", "batch 2"]
    assert sorted(lines[3:]) == ["COMPLETED ada@example.com", "FAILED TaskPayloadParsedError"]
