"""The examples of the README run as pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
OUTLAST = str(Path(sys.executable).parent / "outlast")


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no example {name}"
    return found.group(1)


def test_the_task_and_its_caller_run(tmp_path: Path) -> None:
    subprocess.run([OUTLAST, "init", str(tmp_path)], check=True, capture_output=True)
    (tmp_path / "tasks" / "hello.py").write_text(example("tasks/hello.py"))
    (tmp_path / "caller.py").write_text(example("caller.py"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OUTLAST_", "TRIGGER_"))}
    with (tmp_path / "dev.log").open("w") as errors:
        dev = subprocess.Popen([OUTLAST, "dev", "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors, text=True, env=clean)
    try:
        assert dev.stdout is not None
        address = key = ""
        late = threading.Timer(60, dev.kill)  # several lines may come at once, which a select behind a buffer does not see
        late.start()
        while not (address and key):
            line = dev.stdout.readline()
            assert line, (tmp_path / "dev.log").read_text()
            address = address or ("yes" if line.startswith("Dashboard  http://127.0.0.1:") else "")
            key = key or ("yes" if line.startswith("Key        tr_dev_sk_") else "")
        late.cancel()
        called = subprocess.run(
            [sys.executable, "caller.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=clean, check=False
        )
        assert called.stdout.strip() == "{'sent': True}", called.stderr
        assert oct((tmp_path / ".outlast" / "dev.json").stat().st_mode & 0o777) == "0o600"
    finally:
        dev.terminate()
        dev.communicate(timeout=30)


def test_the_embedded_example_runs(tmp_path: Path) -> None:
    (tmp_path / "embedded.py").write_text(example("embedded.py"))
    ran = subprocess.run([sys.executable, "embedded.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.strip() == "hello world", ran.stderr
