"""What importing costs, and what the tree must not hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = (
    "httpx",
    "pydantic",
    "starlette",
    "uvicorn",
    "jinja2",
    "psycopg",
    "opentelemetry",
    "outlast.server",
    "outlast.store",
    "outlast.engine",
)


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_importing_outlast_loads_nothing_heavy() -> None:
    code = f"import sys, outlast; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"


def test_no_source_file_is_longer_than_400_lines() -> None:
    long = [p.name for p in (ROOT / "src").rglob("*.py") if len(p.read_text().splitlines()) > 400]
    assert long == []


def test_the_lock_has_hashes_and_names_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", lock)


def test_npm_locks_pin_everything_and_name_no_host() -> None:
    locks = [p for p in committed() if p.name == "package-lock.json"]
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert '"integrity": "sha512-' in text
        assert '"resolved"' not in text


def test_no_committed_file_holds_a_path_of_a_machine() -> None:
    pattern = re.compile("/" + r"(work|root|home/\w+)/\w+")
    texts = [p for p in committed() if p.suffix in (".py", ".md", ".toml", ".sql", ".lock", "") and p.name != "LICENSE"]
    assert [str(p) for p in texts if pattern.search(p.read_text(errors="ignore"))] == []


def test_both_namespaces_have_the_same_verbs() -> None:
    import inspect

    import outlast
    import outlast.sync

    for noun in ("tasks", "runs", "batch", "queues", "auth", "deployments", "idempotency", "run", "retry"):
        blocking = getattr(outlast.sync, noun)
        for name, verb in vars(blocking).items():
            if not isinstance(verb, staticmethod):
                continue
            twin = getattr(getattr(outlast, noun), name)
            assert list(inspect.signature(getattr(blocking, name)).parameters) == list(inspect.signature(twin).parameters)
            assert (getattr(blocking, name).__doc__ or "").splitlines()[0] == (twin.__doc__ or "").splitlines()[0]
