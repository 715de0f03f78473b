"""What a strict type checker says of users' code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def said(name: str, folder: Path) -> list[tuple[int, str]]:
    """(line, rule) of every complaint of pyright in strict mode."""
    settings: dict[str, Any] = {"include": [name], "typeCheckingMode": "strict", "pythonVersion": "3.11", "reportMissingTypeStubs": False}
    shutil.copy(HERE / name, folder)
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == 1, done.stdout
    return [(d["range"]["start"]["line"] + 1, d.get("rule", "")) for d in found["generalDiagnostics"] if d["severity"] == "error"]


def test_payloads_and_outputs_are_inferred(tmp_path: Path) -> None:
    assert said("right.py", tmp_path) == []


def test_wrong_code_is_refused_where_it_is_wrong(tmp_path: Path) -> None:
    marks = (re.search(r"# error: ([\w, ]+)$", line) for line in (HERE / "wrong.py").read_text().splitlines())
    expected = [(n, rule) for n, mark in enumerate(marks, 1) if mark for rule in mark[1].split(", ")]
    assert said("wrong.py", tmp_path) == expected
