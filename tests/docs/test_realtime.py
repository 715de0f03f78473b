"""The program of the realtime guide runs as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "realtime.md"


def test_the_program_of_the_guide_runs(tmp_path: Path) -> None:
    [program] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    ran = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    lines = ran.stdout.splitlines()
    assert lines[:4] == ["once", "upon", "a", "time"], ran.stderr
    assert lines[-1] == "COMPLETED {'words': 4} published", ran.stdout
